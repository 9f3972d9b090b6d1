"""The documentation as a site: `make docs`.

The source folder is the repository's root, so every page and every link is the same here and in a checkout.
"""

from __future__ import annotations

from pathlib import Path

import resnetlab

ROOT = Path(__file__).resolve().parents[1]
CONTENTS = {
    "Use": [
        "docs/study",
        "docs/results",
        "docs/serve",
        "docs/analyse",
        "docs/papers",
        "docs/command",
        "docs/python",
        "cluster/README",
        "docs/own-code",
        "docs/extending",
        "docs/versions",
    ],
    "Look up": ["docs/tables", "docs/tables-with-other-tools", "docs/exit-codes", "docs/glossary", "docs/api"],
    "Judge": [
        "docs/statistics",
        "docs/benchmarks",
        "docs/reproductions",
        "docs/findings",
        "docs/faults",
        "docs/alternatives",
        "cluster/transcript",
        "results/README",
        "results/reference/calibration",
        "results/reference/looks",
        "results/reference/shared-seeds",
        "results/reference/new-images",
        "results/reference/low-runs",
    ],
    "Project": ["CONTRIBUTING", "CHANGELOG", "LOG", "SECURITY"],
}
TITLES = {"results/README": "Reference results", "cluster/transcript": "Cluster tests", "LOG": "Decisions"}
PRESENT = {part: [page for page in pages if (ROOT / f"{page}.md").exists()] for part, pages in CONTENTS.items()}

project, author, copyright = "resnetlab", "The resnetlab developers", "The resnetlab developers"
release = version = resnetlab.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "README"
include_patterns = ["README.md", *(f"{page}.md" for pages in PRESENT.values() for page in pages)]

myst_enable_extensions = ["html_image"]
myst_heading_anchors = 3
autodoc_typehints = "description"

html_theme = "furo"
html_title = "resnetlab"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = False
templates_path = ["_templates"]
html_additional_pages = {"index": "index.html"}  # leads to README.html


def contents(app: object, name: str, source: list[str]) -> None:
    """The README, which is also the repository's first page, gets the table of contents that only the site needs."""
    if name == root_doc:
        for part, pages in PRESENT.items():
            listed = "\n".join(f"{TITLES[page]} </{page}>" if page in TITLES else f"/{page}" for page in pages)
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {part}\n\n{listed}\n```\n"


def setup(app: object) -> None:
    app.connect("source-read", contents)  # type: ignore[attr-defined]
