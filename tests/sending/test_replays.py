"""Answers that come a second time."""

import logging

import pytest

from aiophlo.sending.replays import RECENT, Replays


def test_repeated_answer_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """A cache on the way says yes to transfers that nobody makes."""
    replays = Replays()
    with caplog.at_level(logging.WARNING, logger="aiophlo"):
        replays.note("faad0293-f5f0")
        assert not caplog.records
        replays.note("faad0293-f5f0")
        replays.note("faad0293-f5f0")
        [record] = caplog.records
        replays.note("0000")
        replays.note("0000")
        assert len(caplog.records) == 2
    assert "repeats answers" in record.getMessage()


def test_memory_of_answers_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """A pool that sends for weeks must not remember all it was told."""
    replays = Replays()
    for number in range(2 * RECENT):
        replays.note(str(number))
    replays.note("0")  # forgotten
    assert not caplog.records
    replays.note(str(2 * RECENT - 1))
    assert len(caplog.records) == 1
