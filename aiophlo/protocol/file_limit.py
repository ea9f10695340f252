"""How many connections this process has file descriptors for."""

import os

_OPEN = ("/proc/self/fd", "/dev/fd")


def most_connections() -> int:
    """Return how many connections leave room for what else the process opens.

    Three quarters of what `ulimit -n` leaves at this moment; 0 where there is no
    such limit. Journals, logs, a service's own clients and DNS need the rest.
    """
    try:
        import resource  # noqa: PLC0415 -- not on every system
    except ImportError:
        return 0
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 0
    return max((soft - _number_open()) * 3 // 4, 1)


def _number_open() -> int:
    for folder in _OPEN:
        try:
            return len(os.listdir(folder))  # noqa: PTH208 -- no path is needed
        except OSError:
            continue
    return 0
