"""Counts a batch's outcomes, and writes each row's to the results and to JSON."""

from collections import Counter
from http import HTTPStatus

from aiophlo.cli.output import output_failure, say_json
from aiophlo.cli.results import FIELDS, Result, Results, result_of
from aiophlo.model.outcomes import Outcome
from aiophlo.model.redaction import mask_id
from aiophlo.observed_events import AttemptBegun, AttemptEnded, ObservedEvent


class Totals:
    """Counts outcomes and passes them on; an observer of their pool.

    Args:
        results: The file that gets a row for each, if there is one.
        as_json: Put a line for each on standard output.

    Attributes:
        verdicts: Rows by their verdict.
        reasons: Rows by what they were not sent or are in doubt for.
        requests: Requests begun.
        refused_429: Requests answered 429.
    """

    def __init__(
        self, results: Results | None = None, *, as_json: bool = False
    ) -> None:
        self.verdicts: Counter[str] = Counter()
        self.reasons: Counter[tuple[str, str]] = Counter()
        self.requests = 0
        self.refused_429 = 0
        self._results = results
        self._as_json = as_json

    def __call__(self, event: ObservedEvent) -> None:
        """Count a request."""
        if isinstance(event, AttemptBegun):
            self.requests += 1
        elif isinstance(event, AttemptEnded):
            self.refused_429 += event.outcome.status == HTTPStatus.TOO_MANY_REQUESTS

    @property
    def rows(self) -> int:
        """Rows that have an outcome."""
        return self.verdicts.total()

    def note(self, outcome: Outcome) -> None:
        """Count an outcome, and write it.

        Raises:
            OSError: It can't be written.
        """
        self.add(result_of(outcome))

    def add(self, result: Result) -> None:
        """Count a row's result, and write it.

        Raises:
            OSError: It can't be written.
        """
        key, verdict, reason = result[:3]
        self.verdicts[verdict] += 1
        if reason is not None:
            self.reasons[verdict, reason] += 1
        if self._results is not None:
            self._results.add(result)
        if self._as_json and output_failure() is None:
            say_json(dict(zip(FIELDS, (mask_id(key), *result[1:]), strict=True)))
