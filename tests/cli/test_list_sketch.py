"""Sketches: lists that are mostly the same are noticed, and others are not."""

import random
from pathlib import Path

import pytest

from aiophlo.cli.list_sketch import in_common, sketch_of, smallest
from aiophlo.cli.row_source import opened
from aiophlo.cli.rows import Defaults
from tests.support.batches import write_rows

DEFAULTS = Defaults("p", "n", assume_plus=False, ignore_columns=False)


def numbers(seed: int, count: int) -> list[int]:
    """Return hashes of so many rows."""
    chance = random.Random(seed)  # noqa: S311 -- a test's
    return [chance.getrandbits(63) for _ in range(count)]


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 5_000])
def test_a_list_has_all_in_common_with_itself_in_any_order(rows: int) -> None:
    """A list that was sorted or told twice is the same list."""
    hashes = numbers(1, rows)
    again = [*reversed(hashes), *hashes]
    assert smallest(again) == smallest(hashes)
    assert in_common(smallest(hashes), smallest(again)) == 1.0


@pytest.mark.parametrize("share", [0.0, 0.2, 0.8, 0.95])
def test_the_share_is_about_that_of_the_rows(share: float) -> None:
    """A list that has grown by some rows is noticed; one with some old rows isn't."""
    both = numbers(2, round(4_000 * share))
    rest = 4_000 - len(both)
    one = smallest([*both, *numbers(3, rest // 2)])
    other = smallest([*both, *numbers(4, rest // 2)])
    assert in_common(one, other) == pytest.approx(share, abs=0.2)


def test_empty_lists_have_nothing_in_common() -> None:
    """Nothing to do twice is no repeat."""
    assert in_common([], []) == 0.0


def test_keys_and_order_don_t_count(tmp_path: Path) -> None:
    """Who is rung counts, not what the row is called."""
    rows = write_rows(tmp_path / "a.csv", 100)
    header, *lines = rows.read_text().splitlines()
    other = tmp_path / "b.csv"
    changed = [line.replace("row-", "x-") for line in reversed(lines)]
    other.write_text("\n".join([header, *changed, "bad,row,here", ""]))
    with opened(str(rows)) as one, opened(str(other)) as two:
        sketches = [sketch_of(source, DEFAULTS, b"secret") for source in (one, two)]
        salted = sketch_of(one, DEFAULTS, b"another")
    assert sketches[0] == sketches[1]
    assert in_common(sketches[0], salted) == 0.0
