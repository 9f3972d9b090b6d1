"""Build the report of a results folder: effects.parquet, the figures, report.html. From the tables alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from resnetlab import console
from resnetlab.analysis.results import Results
from resnetlab.errors import BadRequest
from resnetlab.report.findings import Findings
from resnetlab.storage.schema import effects_schema
from resnetlab.storage.store import write_table

if TYPE_CHECKING:
    from resnetlab.report.rendering import Drawing


def build_report(place: str | Path) -> Path | str:
    """Remake everything that is derived in the folder at `place`; returns where the report lies (a URL stays one).

    The same tables give the same bytes. BadRequest where there is no folder or it cannot be written, FolderRefused
    where a file in it is damaged; nothing is written then.
    """
    return build(Findings(Results.open(place)))


def build(findings: Findings) -> Path | str:
    """`build_report` of a folder that is open."""
    # Seconds of imports, after what can be refused has been.
    from resnetlab.report.figures.catalog import NAMES, gallery
    from resnetlab.report.page import page
    from resnetlab.report.rendering import FORMATS

    results = findings.results
    figures, files = drawn(gallery(findings))
    files["report.html"] = page(findings, figures).encode("utf-8", console.ERRORS)
    folder = results.folder
    try:
        if results.plan is not None:
            metric = findings.metric
            kind = effects_schema(metric.words, "fraction" if metric.fraction else metric.unit)
            table = pa.Table.from_pandas(findings.effects, kind, preserve_index=False)
            write_table(folder, "effects", table)
        for name in NAMES:
            if name not in figures:  # drawn from tables that are no longer there
                for kind in FORMATS:
                    folder.delete(f"figures/{name}.{kind}")
        for name, content in files.items():
            folder.write(name, content)
    except OSError as error:
        raise BadRequest(f"{folder.url}: cannot be written: {error.strerror or error}") from None
    return folder.path / "report.html" if folder.path else f"{folder.url}/report.html"


def one_figure(place: str | Path, name: str, out: str | Path, columns: int | None = None) -> str:
    """Write one figure of the folder at `place` to the file `out`, at one or two columns; returns its caption.

    BadRequest where there is no such figure, or `out` is of no known format or cannot be written.
    """
    from resnetlab.report.figures.catalog import NAMES, gallery
    from resnetlab.report.rendering import FORMATS, caption, render

    out = Path(out)
    kind = out.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise BadRequest(f"--out {out}: need a name that ends in {', '.join(f'.{known}' for known in FORMATS)}")
    if columns not in (None, 1, 2):
        raise BadRequest(f"--columns {columns}: allowed: 1, 2")
    results = Results.open(place)
    drawings = {drawing.name: drawing for drawing in gallery(Findings(results))}
    if name not in drawings:
        known = f"figures of {results.folder.url}: {', '.join(drawings) or 'none'}"
        why = "its tables do not have what it shows" if name in NAMES else "no such figure"
        raise BadRequest(f"--figure {name}: {why} ({known})")
    drawing = drawings[name]
    content = render(replace(drawing, columns=columns or drawing.columns), [kind])[kind]
    try:
        out.write_bytes(content)
    except OSError as error:
        raise BadRequest(f"--out {out}: cannot be written: {error.strerror}") from None
    return caption(drawing)


def drawn(drawings: Sequence[Drawing]) -> tuple[dict[str, tuple[Drawing, str]], dict[str, bytes]]:
    """The figures for a page, by name with their SVG as an element; and as files, with their captions for whoever takes
    one out of the folder."""
    from resnetlab.report.rendering import caption, inline, render

    figures: dict[str, tuple[Drawing, str]] = {}
    files: dict[str, bytes] = {}
    for drawing in drawings:
        made = render(drawing)
        files |= {f"figures/{drawing.name}.{kind}": content for kind, content in made.items()}
        figures[drawing.name] = (drawing, inline(made["svg"], drawing.name))
    captions = "\n".join(f"**{drawing.name}**: {caption(drawing)}\n" for drawing in drawings)
    return figures, files | {"figures/captions.md": captions.encode()}
