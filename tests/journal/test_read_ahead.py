"""Rows that were read ahead are the ones that stand in the file."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiophlo import Journal, WarmTransfer
from aiophlo.journal.read_ahead import ReadAhead
from aiophlo.journal.reader import JournalReader

COUNT = 2_500


@pytest.fixture
async def reader(tmp_path: Path) -> Any:  # noqa: ANN401 -- an asynchronous fixture's
    """Yield a reader of a journal with many keys."""
    path = tmp_path / "j.db"
    action = WarmTransfer(
        phlo_id="p", node_id="n", trigger_source="+14152223333", to="+14155550100"
    )
    async with Journal(path) as journal:
        await asyncio.gather(*(journal.intend(f"k{n}", action) for n in range(COUNT)))
    with Journal.read(path) as found:
        yield found


def orders() -> Iterator[list[int]]:
    """Yield orders in which a list may stand when it is run again."""
    numbers = list(range(COUNT))
    yield numbers
    yield numbers[::-1]
    yield [n * 7 % COUNT for n in numbers]
    shuffled = numbers[:]
    random.Random(1).shuffle(shuffled)  # noqa: S311 -- the same one each time
    yield shuffled


async def test_every_row_is_found_once_in_any_order(reader: JournalReader) -> None:
    """A row that is not found is a phone that rings twice."""
    ahead = ReadAhead(reader)
    for order in orders():
        ahead.start_over()
        found = [ahead.find(f"k{n}", masked=False) for n in order]
        assert [known.key for known in found if known] == [f"k{n}" for n in order]
    assert ahead.find("another", masked=False) is None


async def test_walking_looks_up_one_row_a_page(
    reader: JournalReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million single look-ups would keep a resumed batch waiting."""
    looked_up = []
    find = JournalReader.find

    def counted(self: JournalReader, key: str, *, masked: bool) -> Any:  # noqa: ANN401
        looked_up.append(key)
        return find(self, key, masked=masked)

    monkeypatch.setattr(JournalReader, "find", counted)
    ahead = ReadAhead(reader)
    for n in range(COUNT):
        assert ahead.find(f"k{n}", masked=False)
    assert looked_up == ["k0", "k1001", "k2002"]


async def test_a_single_row_far_in_the_file_reads_no_page(
    reader: JournalReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks about one call must not wait for a thousand rows."""
    monkeypatch.setattr(JournalReader, "after", None)
    assert ReadAhead(reader).find("k2400", masked=False)
