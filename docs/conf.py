"""Build the documentation with Sphinx: `make docs`.

The source folder is the repository, so a link to README.md or deploy/ is checked where it points.
The navigation is read from the lists in docs/README.md and docs/decisions/README.md.
"""

import re
import tomllib
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
INDEXES = ("docs/README", "docs/decisions/README")
SECTION = re.compile(r"^## (.+)$|^- \[([^]]+)\]\(([^)#]+)\.md\)", re.MULTILINE)
HOME = "<!doctype html><title>residual</title><meta http-equiv='refresh' content='0; url=docs/README.html'>\n"

project = "residual"
release = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
language = "en"
extensions = ["myst_parser"]
root_doc = INDEXES[0]
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/**.md"]
exclude_patterns = [".*", "build", "dist", "**/__pycache__"]
smartquotes = False  # would turn the -- of an option into a dash
nitpicky = True
myst_heading_anchors = 6
html_theme = "furo"
html_title = f"residual {release}"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["site.css"]


def add_navigation(app: Sphinx, docname: str, content: list[str]) -> None:
    """Append to an index the table of contents that its lists make; a page keeps its first place."""
    if docname not in INDEXES:
        return
    seen = set()
    for section, title, page in SECTION.findall(content[0]):
        if section:
            content[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {section}\n```\n"
        elif page not in seen:
            seen.add(page)
            content[0] = content[0].removesuffix("```\n") + f"{title.replace('`', '')} <{page}>\n```\n"


def add_home(app: Sphinx, exception: Exception | None) -> None:
    """Write the index.html of the site, which leads to the index of the documentation."""
    if exception is None:
        (Path(app.outdir) / "index.html").write_text(HOME, "utf-8")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", add_navigation)
    app.connect("build-finished", add_home)
