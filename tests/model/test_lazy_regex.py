"""Patterns that are compiled when they are first used."""

import re
import subprocess
import sys

from aiophlo.model.lazy_regex import lazy_compile

_IMPORT = """
import re._compiler as compiler
compiled = []
compile_one = compiler.compile
def noting(pattern, flags=0):
    compiled.append(str(pattern))
    return compile_one(pattern, flags)
compiler.compile = noting
import aiohttp, attrs, tenacity
compiled.clear()
import aiophlo
print(sum(map(len, compiled)))
"""
_AT_MOST = 300  # characters of patterns


def test_lazy_pattern_does_what_a_compiled_one_does() -> None:
    """A number that isn't found stands in a log for everybody."""
    lazy = lazy_compile("(?P<digit>[0-9])X", re.IGNORECASE)
    for _ in range(2):
        match = lazy.search("a1x")
        assert match is not None
        assert match["digit"] == "1"
        assert lazy.sub("…", "1x2X3") == "……3"
        assert lazy.fullmatch("1xx") is None
    assert lazy.flags & re.IGNORECASE


def test_import_compiles_few_patterns() -> None:
    """Whoever starts a command waits for each, and most never need one."""
    found = subprocess.run(  # noqa: S603 -- our own program
        [sys.executable, "-c", _IMPORT], capture_output=True, text=True, check=True
    )
    assert int(found.stdout) <= _AT_MOST
