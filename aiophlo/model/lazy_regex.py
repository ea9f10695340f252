"""Regular expressions that are compiled when they are first used.

Compiling those with large sets of characters, or many alternatives, was half of what
importing aiophlo cost, and many programs never need most of them.
"""

import re
from typing import Any, cast


class _LazyPattern:
    """Stands for a compiled pattern, of which it keeps each method once used."""

    def __init__(self, pattern: str, flags: re.RegexFlag) -> None:
        self._pattern = pattern
        self._flags = flags

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- the pattern's own
        value = getattr(re.compile(self._pattern, self._flags), name)
        setattr(self, name, value)
        return value


def lazy_compile(pattern: str, flags: re.RegexFlag = re.NOFLAG) -> "re.Pattern[str]":
    """Return what can be used as `re.compile` returns it, and costs nothing yet."""
    return cast("re.Pattern[str]", _LazyPattern(pattern, flags))
