"""The part of a page that is generated: what is between two markers."""

BEGIN = "<!-- benchmarks:begin -->"
END = "<!-- benchmarks:end -->"


class MarkersError(ValueError):
    """A page has no place for the figures, or more than one."""


def section_of(page: str) -> str:
    """Return what is between the markers.

    Raises:
        MarkersError: They are missing, repeated or in the wrong order.
    """
    begin, end = _bounds(page)
    return page[begin:end]


def replace_section(page: str, section: str) -> str:
    """Return the page with another section between the markers.

    Raises:
        MarkersError: They are missing, repeated or in the wrong order.
    """
    begin, end = _bounds(page)
    return f"{page[:begin]}\n{section.strip()}\n{page[end:]}"


def _bounds(page: str) -> tuple[int, int]:
    begin, end = page.find(BEGIN), page.find(END)
    once = page.count(BEGIN) == page.count(END) == 1
    if not once or begin > end:
        title = page.split("\n", 1)[0]
        raise MarkersError(f"page {title!r}: expected {BEGIN} and {END}, once each")
    return begin + len(BEGIN), end
