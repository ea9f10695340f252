"""What is asked of a soak, and what came of it."""

from collections import Counter
from collections.abc import Mapping

import attrs

from benchmarks.soak.judge import Findings


@attrs.frozen(kw_only=True)
class Options:
    """What to soak, and how hard.

    Attributes:
        actions: How many.
        concurrency: How many may be under way.
        seed: Seed of actions, faults and waits.
        faults: Chance of each fault by name.
        lends_session: Send through a session of aiohttp's, and not past it.
    """

    actions: int
    concurrency: int
    seed: int
    faults: Mapping[str, float]
    lends_session: bool = False


@attrs.frozen(kw_only=True)
class Result:
    """What came of a soak.

    Attributes:
        findings: The judge's.
        without_outcome: Actions that got none, or more than one.
        escaped: What was raised and is none of the library's verdicts.
        reasons: Verdicts, with their reasons.
        seconds: How long it took.
        peak_memory: Of the pool's process, in MiB.
    """

    findings: Findings
    without_outcome: int
    escaped: Counter[str]
    reasons: Counter[str]
    seconds: float
    peak_memory: float

    @property
    def agrees(self) -> bool:
        """Whether there is nothing wrong at all."""
        return not (
            self.findings.disagreements
            or self.findings.rung_twice
            or self.without_outcome
            or self.escaped
        )
