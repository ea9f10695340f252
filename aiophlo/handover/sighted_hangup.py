"""Looks, while a transfer in doubt may ring, whether its phone has been hung up."""

from collections.abc import Callable
from typing import Final, Protocol

from aiophlo.model.handover_records import Ending
from aiophlo.model.outcomes import InDoubt
from aiophlo.model.sightings import CallState, Sighting

# Plivo's numbers for why a call that nobody answered has ended.
_BY_CODE: Final = {
    1000: Ending.NO_ANSWER,  # canceled
    3000: Ending.NO_ANSWER,
    3010: Ending.BUSY,
    3020: Ending.DECLINED,
}
_BY_WORD: Final = {
    "busy": Ending.BUSY,
    "reject": Ending.DECLINED,
    "decline": Ending.DECLINED,
    "no answer": Ending.NO_ANSWER,
    "timeout": Ending.NO_ANSWER,
    "cancel": Ending.NO_ANSWER,
}


class Look(Protocol):
    """Looks for a transfer in doubt, as `SessionPool.look` does."""

    async def __call__(
        self,
        outcome: InDoubt,
        *,
        look_for: float,
        wanted: Callable[[Sighting], bool] | None = None,
    ) -> Sighting:
        """Look until what is wanted is seen."""


async def look_for_hangup(
    look: Look, outcome: InDoubt, *, look_for: float, tell: Callable[[Ending], None]
) -> None:
    """Look until it is seen that nobody has answered, and tell of it.

    Args:
        look: Looks for a dial in doubt.
        outcome: The transfer.
        look_for: Seconds for which its phone may ring.
        tell: Told how the ring ended, if that is seen.
    """
    sighting = await look(
        outcome,
        look_for=look_for,
        wanted=lambda found: found.state is CallState.ENDED,
    )
    ending = ending_of(sighting)
    if ending is not None:
        tell(ending)


def ending_of(sighting: Sighting) -> Ending | None:
    """Return how a ring ended that nobody answered; None for any other sighting.

    Source:
        Plivo docs, "Hangup causes": their numbers and names. Assumed: whatever else
        ends a call before it is answered, the network could not ring them.
    """
    if sighting.state is not CallState.ENDED or sighting.answered_at is not None:
        return None
    if sighting.hangup_code in _BY_CODE:
        return _BY_CODE[sighting.hangup_code]
    cause = (sighting.hangup_cause or "").lower()
    if not cause and sighting.hangup_code is None:
        return Ending.NO_ANSWER
    return next((end for word, end in _BY_WORD.items() if word in cause), Ending.FAILED)
