"""How the documentation is built: `sphinx-build -W -n docs build/docs`, offline."""

import re

from sphinx.application import Sphinx

from aiophlo import __version__

project = "aiophlo"
author = "The aiophlo authors"
project_copyright = author
version = release = __version__

extensions = [
    "myst_parser",  # pages are Markdown
    "sphinx.ext.autodoc",  # the reference is the docstrings
    "sphinx.ext.napoleon",  # which are written in Google's form
    "sphinx.ext.graphviz",  # diagrams become SVG at build time, with no network
    "sphinx_copybutton",
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
templates_path: list[str] = []

html_theme = "furo"
html_title = f"aiophlo {release}"
html_static_path = ["_static"]
html_css_files = ["narrow.css"]
html_theme_options = {"source_repository": "", "navigation_with_keys": True}

graphviz_output_format = "svg"
myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_maximum_signature_line_length = 80  # what is longer: an argument per line
toc_object_entries_show_parents = "hide"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Source", "notes_style")]
default_role = "code"  # `name` in a docstring is a name, as everywhere else
copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True

nitpick_ignore_regex = [
    # The build is offline, so nobody's inventory is fetched.
    ("py:.*", r"(aiohttp|asyncio|collections|datetime|http|opentelemetry)\..*"),
    ("py:.*", r"(os|signal|ssl)\..*"),
    # A shape that you never name: what is judged.
    ("py:.*", r"aiophlo\.simulator\.audit\..*"),
    ("py:.*", r"aiophlo\.simulator\.(call_list\.Leg|people\.HangupCause)"),
    # A protocol that `PostgresCoordinator` fulfils.
    ("py:.*", r"aiophlo\.coordination\..*"),
]
suppress_warnings = [
    "misc.highlighting_failure",  # JSON over several lines in a command of curl's
]


def _shown_signature(
    _app: Sphinx,
    _what: str,
    _name: str,
    _thing: object,
    _options: object,
    *signature: str,
) -> tuple[str, ...] | None:
    """Name the functions and factories that are defaults as they are written."""
    if not signature[0]:
        return None
    return tuple(
        text
        and re.sub(r"<built-in method (\w+) of Random object[^>]*>", r"random.\1", text)
        .replace("<built-in function monotonic>", "time.monotonic")
        .replace("NOTHING", "...")
        for text in signature
    )


def _shown_docstring(
    _app: Sphinx,
    what: str,
    _name: str,
    _thing: object,
    _options: object,
    lines: list[str],
) -> None:
    """Leave out what Python says of unions, and the modules of types."""
    if what == "data":
        lines.clear()
    for number, line in enumerate(lines):
        if line.lstrip().startswith(":type: "):
            lines[number] = re.sub(r"(?<![~.\w])((?:\w+\.)+[A-Z]\w*)", r"~\1", line)


def setup(app: Sphinx) -> None:
    """Mend what autodoc shows."""
    app.connect("autodoc-process-signature", _shown_signature)
    app.connect("autodoc-process-docstring", _shown_docstring, priority=900)
