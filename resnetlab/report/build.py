"""Build the report of a results folder from its tables: effects.parquet, the figures, and report.html."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from resnetlab import console
from resnetlab.analysis.results import Results
from resnetlab.errors import BadRequest
from resnetlab.report.findings import Findings
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.schema import effects_schema
from resnetlab.storage.store import write_table

if TYPE_CHECKING:
    from resnetlab.report.rendering import Drawing


def build_report(place: str | Path) -> Path | str:
    """Rebuild everything that is derived from the tables of the folder at `place`; returns the report's path or URL.

    The same tables give the same bytes. Raises BadRequest if the folder does not exist or cannot be written,
    FolderRefused if a file in it is damaged; nothing is written then.
    """
    return build(Findings(Results.open(place)))


def build(findings: Findings) -> Path | str:
    """`build_report`, from findings of an open folder."""
    # Imported here because they take seconds, and only after bad requests were refused.
    from resnetlab.report.figures.catalog import NAMES, gallery
    from resnetlab.report.page import page

    results, effects = findings.results, None
    figures, files = drawn(gallery(findings))
    files["report.html"] = page(findings, figures).encode("utf-8", console.ERRORS)
    if results.plan is not None:
        metric = findings.metric
        kind = effects_schema(metric.words, "fraction" if metric.fraction else metric.unit)
        effects = pa.Table.from_pandas(findings.effects, kind, preserve_index=False)
    return write_files(results.folder, effects, files, [name for name in NAMES if name not in figures])


def as_html(findings: Findings) -> bytes:
    """The report alone, in one file. Takes seconds, and writes nothing."""
    from resnetlab.report.figures.catalog import gallery
    from resnetlab.report.page import page
    from resnetlab.report.rendering import inline, render

    figures = {one.name: (one, inline(render(one, ["svg"])["svg"], one.name)) for one in gallery(findings)}
    return page(findings, figures).encode("utf-8", console.ERRORS)


def write_files(
    folder: ResultsFolder, effects: pa.Table | None, files: Mapping[str, bytes], stale: Sequence[str], option: str = ""
) -> Path | str:
    """Write a report's effects table and files, and delete the figures named `stale`; returns the report's path or URL.

    Raises BadRequest, which begins with the `option` that named the folder, if it cannot be written.
    """
    from resnetlab.report.rendering import FORMATS

    try:
        if effects is not None:
            write_table(folder, "effects", effects)
        for name in stale:  # of an earlier report
            for kind in FORMATS:
                folder.delete(f"figures/{name}.{kind}")
        for name, content in files.items():
            folder.write(name, content)
    except OSError as error:
        raise BadRequest(f"{option} {folder.url}: cannot be written: {error.strerror or error}".lstrip()) from None
    return folder.path / "report.html" if folder.path else f"{folder.url}/report.html"


def one_figure(place: str | Path, name: str, out: str | Path, columns: int | None = None) -> str:
    """Write one figure of the folder at `place` to the file `out`, at one or two columns; returns its caption.

    Raises BadRequest if there is no such figure, or if `out` has an unknown format or cannot be written.
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
    """Render figures: by name for the page, each with its SVG as an HTML element; and as files, with their captions."""
    from resnetlab.report.rendering import caption, inline, render

    figures: dict[str, tuple[Drawing, str]] = {}
    files: dict[str, bytes] = {}
    for drawing in drawings:
        made = render(drawing)
        files |= {f"figures/{drawing.name}.{kind}": content for kind, content in made.items()}
        figures[drawing.name] = (drawing, inline(made["svg"], drawing.name))
    captions = "\n".join(f"**{drawing.name}**: {caption(drawing)}\n" for drawing in drawings)
    return figures, files | {"figures/captions.md": captions.encode()}
