"""(b) What does one cost with thousands in flight, on warm connections?"""

from benchmarks.harness.lab import Lab, Measurement, words_for
from benchmarks.harness.slices import add_alone, rounds_side_by_side

DELAY = 0.1  # seconds to each answer
CLIENTS = {"hand-tuned aiohttp": "yardstick:run", "aiophlo": "phlo:plain"}


def measure(lab: Lab) -> Measurement:
    """Let both take turns, at each number in flight."""
    sizes = {1_000: 20_000, 10_000: 20_000}  # transfers measured at each
    if lab.quick:
        sizes = {1_000: 4_000, 4_000: 4_000}
    rows: list[Measurement] = []
    for in_flight, transfers in sizes.items():
        rounds = 1 if lab.quick else 3
        at_size = _at(lab, in_flight, transfers, rounds)
        rows += [{"in_flight": in_flight, **row} for row in at_size]
    return {"delay": DELAY, "rows": rows}


def _at(lab: Lab, in_flight: int, transfers: int, rounds: int) -> list[Measurement]:
    with lab.server(delay=DELAY) as server:

        def words(where: str) -> tuple[str, ...]:
            return words_for(
                "cpu",
                where=where,
                base_url=server.base_url,
                on_uvloop=False,
                load={
                    "in_flight": in_flight,
                    "transfers": transfers,
                    "skipped": in_flight,
                    "warm": True,
                },
            )

        programs = {name: words(where) for name, where in CLIENTS.items()}
        rows = rounds_side_by_side(programs, rounds=rounds)
        add_alone(lab, rows, programs)
        return rows
