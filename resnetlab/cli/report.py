"""`resnetlab report`: regenerate the report of a results folder, or one of its figures, from the tables."""

from __future__ import annotations

from dataclasses import replace
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnetlab.cli import options, status
from resnetlab.cli.exit_codes import report_errors
from resnetlab.errors import BadData, BadRequest, TrialsFailed
from resnetlab.paths import user_path

if TYPE_CHECKING:
    from resnetlab.report.findings import Findings

EXAMPLE = "results/default --figure effects --out fig3.pdf"


def main(
    context: typer.Context,
    place: options.Results,
    figure: Annotated[str | None, typer.Option(help="write only this figure, e.g. effects")] = None,
    out: Annotated[
        Path | None, typer.Option(help="file for the figure: .pdf, .svg or .png", show_default="FIGURE.pdf")
    ] = None,
    columns: Annotated[
        int | None, typer.Option(help="width of the figure: 1 column (3.5 inches) or 2 columns (7 inches)")
    ] = None,
    json: options.Json = False,
    wrong_images: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            help="show thumbnails of this many test images that were misclassified with the most confidence",
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="with --wrong-images: folder or archive of the data", show_default="as trial")
    ] = None,
) -> None:
    """Regenerate report.html and the figures of a results folder, or one figure. Needs neither torch nor Ray."""
    with report_errors():
        if figure is not None:
            options.refuse_beside(context, "--figure", "json", "wrong_images")
        if data is not None and wrong_images is None:
            raise BadRequest("--data: says where images lie that are shown: give --wrong-images too")
        report(place, figure, out, columns, json, wrong_images, data)


def report(
    place: str,
    figure: str | None = None,
    out: Path | None = None,
    columns: int | None = None,
    as_json: bool = False,
    wrong_images: int | None = None,
    data: str | None = None,
) -> None:
    """Regenerate the report of the results folder at `place`, or write one figure of it.

    Args:
        place: path or URL of the results folder.
        figure: name of the one figure to write; None for the whole report.
        out: file for the figure; None for `FIGURE.pdf`.
        columns: width of the figure in columns of a paper, 1 or 2; None for the figure's own.
        as_json: print the conclusions as one JSON object instead of the path of the report.
        wrong_images: how many of the most confidently wrong test images the report shows; None for none.
        data: for these, folder or archive of the images; None for where the dataset finds them by itself.

    Raises:
        BadRequest: `out` or `columns` without `figure`, no such figure, or a place that cannot be read or written.
        TrialsFailed: no trial has finished; nothing is written.
    """
    if figure is not None:
        write_figure(place, figure, out or Path(f"{figure}.pdf"), columns)
    elif out is not None or columns is not None:
        raise BadRequest("--out and --columns apply to one figure: name it with --figure")
    else:
        regenerate(place, as_json, wrong_images, data)


def write_figure(place: str, name: str, out: Path, columns: int | None) -> None:
    """Write one figure of a results folder to the file `out`; print its path and its caption."""
    from resnetlab.report import build

    caption = build.one_figure(place, name, user_path(out, "--out"), columns)
    print(f"{out}\n{caption}")


def regenerate(place: str, as_json: bool = False, wrong_images: int | None = None, data: str | None = None) -> None:
    """Write the report of a results folder from its tables, and print its path. TrialsFailed: no trial has finished."""
    from resnetlab.analysis.results import Results
    from resnetlab.report.build import build
    from resnetlab.report.findings import Findings
    from resnetlab.study.records import Status

    results = Results.open(place)
    counts = results.trials["status"].value_counts()
    if not counts.get(Status.COMPLETE, 0) + counts.get(Status.STOPPED, 0):
        statuses = ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in counts.items()) or "no trials"
        raise TrialsFailed(f"{results.folder.url}: nothing to report: no trial has finished ({statuses})")
    findings = Findings(results)
    if wrong_images is not None:
        findings = with_wrong_images(findings, wrong_images, None if data is None else str(user_path(data, "--data")))
    path = build(findings)
    if as_json:
        status.print_summary(findings, place, as_json=True)
    else:
        print(path)


def with_wrong_images(findings: Findings, count: int, place: str | None) -> Findings:
    """`findings` that show `count` images. place: as of `data_of`. BadRequest where no confirm run can be shown."""
    from resnetlab.driver.recorded_data import data_of
    from resnetlab.report.findings import WrongImages
    from resnetlab.study.data_config import DataConfig

    arm = findings.shown_arm
    if findings.results.study.experiment or arm is None:
        raise BadRequest("--wrong-images: needs confirm runs of an image classifier, and this folder has none")
    if findings.results.predictions["confidence"].isna().all():
        raise BadData("--wrong-images: the runs of this folder did not keep how sure they were of each image")
    config = DataConfig.model_validate(loads(str(arm.runs["config"].iloc[0]))["data"])
    dataset = data_of(config, str(arm.runs["data_hash"].iloc[0]), place)

    shown = WrongImages(count, lambda numbers: [dataset.images[number] for number in numbers])
    return replace(findings, wrong_images=shown)
