"""(f) What does importing cost?"""

import functools

from benchmarks.harness.lab import Lab, Measurement

CLIENTS = {
    "nothing": "",
    "aiohttp": "import aiohttp",
    # What a transfer needs: `import aiophlo` alone leaves the pool for later.
    "aiophlo": "from aiophlo import Account, SessionPool, WarmTransfer",
    "its webhooks": "from aiophlo import webhooks",
}
_PROGRAM = """
import time
cpu = time.process_time()
wall = time.perf_counter()
{statement}
cpu = time.process_time() - cpu
wall = time.perf_counter() - wall
import json
rss = [line for line in open("/proc/self/status") if line.startswith("VmRSS")]
print(json.dumps({{
    "cpu_ms": cpu * 1e3,
    "wall_ms": wall * 1e3,
    "resident_mib": int(rss[0].split()[1]) / 1024,
}}))
"""


def measure(lab: Lab) -> Measurement:
    """Import each in a fresh process, in turns, after one turn to compile."""
    trials = {
        name: functools.partial(
            lab.run_python, "-c", _PROGRAM.format(statement=statement)
        )
        for name, statement in CLIENTS.items()
    }
    for trial in trials.values():
        trial()
    return {"rows": lab.take_turns(trials, rounds=5 if lab.quick else 21)}
