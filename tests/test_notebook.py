"""The page on other tools and its notebook have the same text, and still give the committed output."""

import importlib.util
from pathlib import Path

import nbformat

DOCS = Path(__file__).resolve().parents[1] / "docs"


def load():
    spec = importlib.util.spec_from_file_location("make_notebook", DOCS / "make_notebook.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def said(notebook) -> list[tuple[str, list[str]]]:
    """Of each cell its source, and what it printed or showed as text."""
    shown = []
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        shown.append((cell.source, [out.get("text") or out.get("data", {}).get("text/plain") for out in outputs]))
    return shown


def test_the_notebook_is_the_page_executed():
    module = load()
    committed = nbformat.read(module.NOTEBOOK, as_version=4)
    assert said(module.executed(module.PAGE.read_text())) == said(committed), "run: make notebook"
    assert sum(bool(outputs) for _, outputs in said(committed)) >= 7
