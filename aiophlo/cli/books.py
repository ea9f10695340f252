"""What has come of a batch so far, and everybody who is told row by row."""

import re
from collections import Counter

import typer

from aiophlo.addresses import mask_text
from aiophlo.cli.results import Result, Results, json_line
from aiophlo.cli.words import harmless_id
from aiophlo.observing import ActionEnded, AttemptEnded
from aiophlo.outcomes import InDoubt, NotSent, Outcome

_OF_A_LINE = re.compile(r"[0-9]+:[0-9a-f]*")
_THROTTLED = 429


class Books:
    """Counts outcomes and passes them on; an observer of the batch's pool.

    Args:
        results: The file that gets a row for each, if there is one.
        as_json: Put a line for each on standard output.

    Attributes:
        verdicts: Rows by their verdict.
        reasons: Rows by what they were not sent or are in doubt for.
        refused_429: Requests answered 429.
    """

    def __init__(self, results: Results | None, *, as_json: bool) -> None:
        self.verdicts: Counter[str] = Counter()
        self.reasons: Counter[tuple[str, str]] = Counter()
        self.refused_429 = 0
        self._results = results
        self._as_json = as_json

    def __call__(self, event: AttemptEnded | ActionEnded) -> None:
        """Take note of a 429."""
        if isinstance(event, AttemptEnded) and event.outcome.status == _THROTTLED:
            self.refused_429 += 1

    @property
    def rows(self) -> int:
        """Rows that have an outcome."""
        return self.verdicts.total()

    def note(self, outcome: Outcome) -> None:
        """Take note of an outcome.

        Raises:
            OSError: Somebody can't be told.
        """
        why = outcome.reason if isinstance(outcome, NotSent | InDoubt) else None
        self.add(
            (
                outcome.action.key or "",
                outcome.verdict,
                why and str(why),
                outcome.status,
                harmless_id(outcome.api_id),
                outcome.attempts,
                round(outcome.seconds, 3),
            )
        )

    def add(self, result: Result) -> None:
        """Take note of what came of a row.

        Raises:
            OSError: Somebody can't be told.
        """
        key, verdict, reason = result[:3]
        self.verdicts[verdict] += 1
        if reason is not None:
            self.reasons[verdict, reason] += 1
        if self._results is not None:
            self._results.add(result)
        if self._as_json:
            typer.echo(json_line((shown_key(key), *result[1:])), nl=False)


def shown_key(key: str) -> str:
    """Return a key for other people's eyes: masked if it could hold a number."""
    if _OF_A_LINE.fullmatch(key) or harmless_id(key) == key:
        return key
    return mask_text(key)
