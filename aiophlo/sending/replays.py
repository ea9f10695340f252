"""Warns of replayed answers: two with the same `api_id`.

Plivo gives each request an `api_id` of its own. An `api_id` that comes twice shows
that a cache or a proxy answers instead of Plivo, so that no verdict can be trusted.
"""

from aiophlo.logs import logger
from aiophlo.model.redaction import mask_id

RECENT = 1_000  # ids remembered at least, and twice as many at most


class Replays:
    """The `api_id`s of an account's most recent answers."""

    def __init__(self) -> None:
        self._recent: set[str] = set()
        self._before: set[str] = set()
        self._told: str | None = None

    def note(self, api_id: str) -> None:
        """Note the id of an answer; warn of one that came before."""
        if api_id in self._recent or api_id in self._before:
            if api_id != self._told:
                self._told = api_id
                logger.warning(
                    "an answer has the api_id %s of an earlier one: something on the"
                    " way to Plivo repeats answers, so verdicts may be wrong",
                    mask_id(api_id),
                )
            return
        self._recent.add(api_id)
        if len(self._recent) == RECENT:
            self._recent, self._before = set(), self._recent
