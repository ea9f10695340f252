"""Who was to be reached, as errors tell of it."""

from aiophlo.model.handover_records import Ending, Tried


def test_repr_shows_no_whole_number() -> None:
    """An error that is logged must not tell whom a customer was to reach."""
    assert "55550" not in repr(Tried("+14155550101", Ending.NO_ANSWER))
