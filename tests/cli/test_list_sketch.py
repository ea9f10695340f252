"""Sketches: lists that are mostly the same are noticed, and others are not."""

import random
from pathlib import Path

import pytest

from aiophlo.cli.list_sketch import share_in, sketch_of, smallest
from aiophlo.cli.row_source import opened
from aiophlo.cli.rows import Defaults
from tests.support.batches import write_rows

DEFAULTS = Defaults("p", "n", assume_plus=False, ignore_columns=False)


def numbers(seed: int, count: int) -> list[int]:
    """Return hashes of so many rows."""
    chance = random.Random(seed)  # noqa: S311 -- a test's
    return [chance.getrandbits(63) for _ in range(count)]


@pytest.mark.parametrize("rows", [1, 255, 256, 257, 5_000])
def test_a_list_has_all_in_common_with_itself_in_any_order(rows: int) -> None:
    """A list that was sorted or told twice is the same list."""
    hashes = numbers(1, rows)
    again = [*reversed(hashes), *hashes]
    assert smallest(again) == smallest(hashes)
    assert share_in(smallest(hashes), smallest(again)) == 1.0


@pytest.mark.parametrize("share", [0.0, 0.2, 0.8, 0.95])
@pytest.mark.parametrize("rows", [400, 2_000, 4_000, 20_000])
def test_the_share_is_about_that_of_the_rows(rows: int, share: float) -> None:
    """What was rung last night is noticed among new rows; some old rows aren't."""
    whole = numbers(2, 20_000)
    old = whole[: round(rows * share)]
    one = smallest([*old, *numbers(3, rows - len(old))])
    assert share_in(one, smallest(whole)) == pytest.approx(share, abs=0.2)


@pytest.mark.parametrize("rows", [100, 1_000, 2_000])
def test_part_of_a_list_is_in_it_and_a_longer_one_is_not(rows: int) -> None:
    """Who sends the rest again by hand takes a part of last night's list."""
    whole = numbers(5, 4_000)
    part = smallest(whole[:rows])
    assert share_in(part, smallest(whole)) == 1.0
    assert share_in(smallest(whole), part) == pytest.approx(rows / 4_000, abs=0.15)


def test_of_a_far_longer_list_too_little_is_known() -> None:
    """One row that both have by chance would refuse a list."""
    whole = numbers(6, 100_000)
    assert share_in(whole[-2:], smallest(whole)) == 0.0
    assert share_in(smallest(whole), sorted(whole[-2:])) == 0.0


def test_empty_lists_have_nothing_share_in() -> None:
    """Nothing to do twice is no repeat."""
    assert share_in([], []) == 0.0


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
    assert share_in(sketches[0], salted) == 0.0
