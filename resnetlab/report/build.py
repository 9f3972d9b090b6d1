"""Build the report of a results folder: effects.parquet, the figures, report.html. From the tables alone."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa

from resnetlab.analysis.results import Results
from resnetlab.errors import BadRequest
from resnetlab.tables.schema import schema
from resnetlab.tables.store import write_table


def build_report(place: str | Path) -> Path | str:
    """Remake everything that is derived in the folder at `place`; returns where the report lies (a URL stays one).

    The same tables give the same bytes. BadRequest where there is no folder or it cannot be written, FolderRefused
    where a file in it is damaged; nothing is written then.
    """
    return build(Results.open(place))


def build(results: Results) -> Path | str:
    """`build_report` of results that are open."""
    # Seconds of imports, after what can be refused has been.
    from resnetlab.report.figures import inline, render
    from resnetlab.report.gallery import NAMES, gallery
    from resnetlab.report.html import page

    found = estimates(results)
    figures = {}
    files: dict[str, bytes] = {}
    for drawing in gallery(results, found):
        png, svg = render(drawing)
        files[f"figures/{drawing.name}.png"], files[f"figures/{drawing.name}.svg"] = png, svg
        figures[drawing.name] = (drawing, inline(svg, drawing.name))
    files["report.html"] = page(results, found, figures).encode()
    folder = results.folder
    try:
        if results.plan is not None:
            table = pa.Table.from_pandas(found, schema("effects"), preserve_index=False)
            write_table(folder, "effects", table)
        for name in NAMES:
            if name not in figures:  # drawn from tables that are no longer there
                folder.delete(f"figures/{name}.png")
                folder.delete(f"figures/{name}.svg")
        for name, content in files.items():
            folder.write(name, content)
    except OSError as error:
        raise BadRequest(f"{folder.url}: cannot be written: {error.strerror or error}") from None
    return folder.path / "report.html" if folder.path else f"{folder.url}/report.html"


def estimates(results: Results) -> pd.DataFrame:
    """The effects table of the plan in this folder; empty where there is no plan."""
    if results.plan is None:
        return schema("effects").empty_table().to_pandas()
    from resnetlab.analysis import effects

    return effects.estimate(results.plan, results.confirm)
