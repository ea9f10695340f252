"""The part of the README that belongs to the benchmarks."""

BEGIN = "<!-- benchmarks:begin -->"
END = "<!-- benchmarks:end -->"


class MarkersError(ValueError):
    """The README has no place for the figures, or more than one."""


def section_of(readme: str) -> str:
    """Return what is between the markers.

    Raises:
        MarkersError: They are missing, repeated or in the wrong order.
    """
    begin, end = _bounds(readme)
    return readme[begin:end]


def replace_section(readme: str, section: str) -> str:
    """Return the README with another section between the markers.

    Raises:
        MarkersError: They are missing, repeated or in the wrong order.
    """
    begin, end = _bounds(readme)
    return f"{readme[:begin]}\n{section.strip()}\n{readme[end:]}"


def _bounds(readme: str) -> tuple[int, int]:
    begin, end = readme.find(BEGIN), readme.find(END)
    once = readme.count(BEGIN) == readme.count(END) == 1
    if not once or begin > end:
        raise MarkersError(f"README.md: expected {BEGIN} and {END}, once each")
    return begin + len(BEGIN), end
