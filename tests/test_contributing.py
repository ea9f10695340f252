"""What contributors are told is so."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / ".github" / "CONTRIBUTING.md").read_text("utf-8")


def test_every_path_in_the_guide_is_there() -> None:
    """Whoever begins must not look for a file that was renamed."""
    named = re.findall(r"`((?:[\w.]+/)+[\w.]*|[\w.]+\.(?:py|md|yaml))`", GUIDE)
    assert named
    for path in named:
        assert (ROOT / path).exists() or (ROOT / "aiophlo" / path).exists(), path


def test_every_package_is_in_the_guide() -> None:
    """A package that nobody is told of is found by nobody."""
    packages = {path.parent.name for path in (ROOT / "aiophlo").glob("*/__init__.py")}
    shown = re.findall(r"`(\w+)/`", GUIDE)
    assert packages <= set(shown)
