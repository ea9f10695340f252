"""What an answer means is decided here without the library's own reading of it."""

import pytest

from aiophlo.simulator.answer_meaning import Meaning, meaning_of

SOUND = b'{"api_id": "1", "error": ""}'


@pytest.mark.parametrize(
    ("status", "body", "meaning"),
    [
        (200, SOUND, Meaning.YES),
        (201, SOUND, Meaning.YES),
        (202, b"{}", Meaning.YES),
        (201, b'{"error": null}', Meaning.YES),
        (201, b'{"error": " "}', Meaning.YES),
        (204, b"", Meaning.YES),
        (201, b'{"error": "busy"}', Meaning.NO),
        (201, b'{"error": {"code": 5030}}', Meaning.NO),
        (200, b"", Meaning.UNCLEAR),
        (201, b"<html>", Meaning.UNCLEAR),
        (201, b'["accepted"]', Meaning.UNCLEAR),
        (201, b"[" * 100_000, Meaning.UNCLEAR),
        (301, b"", Meaning.UNCLEAR),
        (302, b"", Meaning.UNCLEAR),
        (303, b"", Meaning.UNCLEAR),
        (307, b"", Meaning.NO),
        (308, b"", Meaning.NO),
        (400, SOUND, Meaning.NO),
        (404, b"<html>", Meaning.NO),
        (408, SOUND, Meaning.UNCLEAR),
        (422, SOUND, Meaning.NO),
        (429, SOUND, Meaning.NOT_NOW),
        (500, SOUND, Meaning.UNCLEAR),
        (503, b'{"error": "busy"}', Meaning.UNCLEAR),
        (600, SOUND, Meaning.UNCLEAR),
    ],
)
def test_answer_means_what_the_documentation_says(
    status: int, body: bytes, meaning: Meaning
) -> None:
    """A judge that misreads an answer condemns the right verdict."""
    assert meaning_of(status, body) is meaning
