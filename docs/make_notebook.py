"""Make tables-with-other-tools.ipynb: the page of that name, executed. Its blocks of Python become cells."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient

DOCS = Path(__file__).resolve().parent
PAGE, NOTEBOOK = DOCS / "tables-with-other-tools.md", DOCS / "tables-with-other-tools.ipynb"


def cells(page: str) -> list[nbformat.NotebookNode]:
    """Text and code of a Markdown page in turn, without outputs."""
    found = []
    for number, part in enumerate(re.split(r"```python\n(.*?)```\n", page, flags=re.DOTALL)):
        new = nbformat.v4.new_code_cell if number % 2 else nbformat.v4.new_markdown_cell
        if part.strip():
            found.append(new(part.strip(), id=f"cell-{number}"))
    return found


def executed(page: str) -> nbformat.NotebookNode:
    """The page as a notebook that was run in `docs/`, with nothing in it that changes from run to run."""
    notebook = nbformat.v4.new_notebook(cells=cells(page))
    notebook.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    where = {"metadata": {"path": str(DOCS)}}
    NotebookClient(notebook, timeout=120, resources=where, record_timing=False).execute()
    notebook.metadata.pop("language_info", None)  # the version of Python
    return notebook


if __name__ == "__main__":
    NOTEBOOK.write_text(nbformat.writes(executed(PAGE.read_text(encoding="utf-8"))) + "\n", encoding="utf-8")
    print(NOTEBOOK)
