"""The files of a study written up, by name: as LaTeX, as Markdown, as CSV."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from resnetlab import durable
from resnetlab.errors import BadRequest
from resnetlab.report.findings import Findings
from resnetlab.writeup.checklist import answers
from resnetlab.writeup.markup import LATEX_HEAD, latex, markdown
from resnetlab.writeup.methods import bibliography, paragraphs
from resnetlab.writeup.rendering import (
    cited,
    csv_table,
    latex_list,
    latex_table,
    latex_text,
    markdown_list,
    markdown_table,
    markdown_text,
)
from resnetlab.writeup.tables import tables

PAPER = r"""% Made by resnetlab. All files together; a paper takes what it needs with \input.
\documentclass{article}
\usepackage[utf8]{inputenc}
\usepackage{booktabs}
\usepackage{siunitx}
\begin{document}
\title{TITLE}
\author{}
\date{}
\maketitle
\input{methods}
INPUTS
\section*{Reproducibility}
\input{checklist}
\bibliographystyle{plain}
\bibliography{references}
\end{document}
"""


def as_latex(findings: Findings) -> dict[str, str]:
    """A file for each table, methods.tex, checklist.tex, references.bib, and paper.tex, which inputs them all."""
    made, text = tables(findings), paragraphs(findings)
    study = findings.results.study
    inputs = "\n".join(f"\\input{{{table.name}}}" for table in made)
    title = latex(study.title or study.name)
    methods = "\n\n".join(map(latex_text, text))
    return {f"{table.name}.tex": latex_table(table) for table in made} | {
        "methods.tex": f"% Made by resnetlab. Cites references.bib.\n{LATEX_HEAD}\n{methods}\n",
        "checklist.tex": f"% Made by resnetlab.\n{LATEX_HEAD}\n{latex_list(answers(findings))}",
        "references.bib": bibliography(findings, cited(text)),
        "paper.tex": PAPER.replace("TITLE", f"{title}").replace("INPUTS", inputs).replace(
            "\\begin{document}", f"{LATEX_HEAD}\n\\begin{{document}}"
        ),
    }  # fmt: skip


def as_markdown(findings: Findings) -> dict[str, str]:
    """A file for each table, methods.md, checklist.md and references.bib; citations are Pandoc's."""
    text = paragraphs(findings)
    return {f"{table.name}.md": markdown_table(table) for table in tables(findings)} | {
        "methods.md": "\n\n".join(map(markdown_text, text)) + "\n",
        "checklist.md": f"{markdown(findings.results.study.name)}\n\n{markdown_list(answers(findings))}",
        "references.bib": bibliography(findings, cited(text)),
    }


def as_csv(findings: Findings) -> dict[str, str]:
    """A file for each table, with every column and digit."""
    return {f"{table.name}.csv": csv_table(table) for table in tables(findings)}


KINDS = {"latex": as_latex, "markdown": as_markdown, "csv": as_csv}


def planned(findings: Findings) -> Findings:
    """The same. BadRequest where the folder has no plan, so nothing to write up."""
    results = findings.results
    if results.plan is None:
        raise BadRequest(
            f"{results.folder.url}: nothing to write up: it has no plan, so no comparison was confirmed (allowed: a "
            "study whose confirm stage has begun)"
        )
    return findings


def write(files: Mapping[str, str], folder: Path) -> None:
    """Write the files into `folder`, each whole. BadRequest where it takes none."""
    for name, text in files.items():
        try:
            durable.replace(folder / name, text.encode("utf-8", "replace"))
        except OSError as error:
            raise BadRequest(f"--output {folder}: cannot be written: {error.strerror or error}") from None
