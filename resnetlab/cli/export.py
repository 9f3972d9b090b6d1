"""`resnetlab export`: results for a paper, for a reviewer, and for Optuna, TensorBoard, MLflow or Weights & Biases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from resnetlab.cli import options
from resnetlab.cli.exit_codes import report_errors
from resnetlab.commands import command, short
from resnetlab.errors import BadRequest, NotSent
from resnetlab.paths import user_path, writable_folder
from resnetlab.provenance import without_secrets

EXAMPLE = "results/default --latex --output paper"


def main(
    place: options.Results,
    latex: Annotated[
        bool,
        typer.Option("--latex", help="effects, arms and hypotheses as booktabs tables, methods, BibTeX, checklist"),
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="the same as Markdown")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="the tables with every column and digit")] = False,
    output: Annotated[
        Path | None, typer.Option(help="folder for --latex, --markdown and --csv", show_default="STUDY-paper")
    ] = None,
    archive: Annotated[
        Path | None,
        typer.Option(help="write all that a reviewer needs to this .zip, which resnetlab verify checks"),
    ] = None,
    optuna: Annotated[
        str | None, typer.Option(help="write an Optuna study to this file (.db for SQLite, .log or .journal) or URL")
    ] = None,
    tensorboard: options.TensorBoard = None,
    mlflow: options.MLflow = None,
    wandb: options.Wandb = None,
) -> None:
    """Export a results folder: for a paper, for a reviewer, or to Optuna, TensorBoard, MLflow or Weights & Biases.

    A sweep takes --tensorboard, --mlflow and --wandb too, to send its trials while it runs.
    """
    with report_errors():
        kinds = [name for name, asked in (("latex", latex), ("markdown", markdown), ("csv", csv)) if asked]
        trackers = {"tensorboard": tensorboard, "mlflow": mlflow, "wandb": wandb}
        if output is not None and not kinds:
            raise BadRequest(f"--output {output}: needs --latex, --markdown or --csv, whose folder it is")
        if not kinds and archive is None and optuna is None and not any(trackers.values()):
            raise BadRequest(
                "nothing to export: give --latex, --markdown, --csv, --archive, --optuna, --tensorboard, --mlflow or "
                "--wandb"
            )
        if kinds or archive is not None:
            write_up(place, kinds, output, archive)
        if optuna is not None or any(trackers.values()):
            export(place, optuna, trackers)


def write_up(place: str, kinds: Sequence[str], output: Path | None, archive: Path | None) -> None:
    """Write what a paper takes of the results folder at `place`, and the archive for its reviewers.

    Args:
        place: path or URL of the results folder.
        kinds: of `latex`, `markdown` and `csv`, those to write.
        output: folder for them; None for `STUDY-paper` in the current folder.
        archive: file for the archive; None for none.

    Raises:
        BadRequest: the folder has no plan, or something cannot be written.
    """
    from resnetlab.analysis.results import Results
    from resnetlab.report.findings import Findings
    from resnetlab.writeup import archive as archives
    from resnetlab.writeup import documents

    file = None if archive is None else archives.checked_name(user_path(archive, "--archive"))
    findings = documents.planned(Findings(Results.open(place)))
    if kinds:
        folder = writable_folder(output or Path(f"{findings.results.study.name}-paper"), "--output")
        for kind in kinds:
            files = documents.KINDS[kind](findings)
            documents.write(files, folder)
            print(f"{kind}: {', '.join(files)} in {short(str(folder))}")
    if file is not None:
        digest = archives.write(findings, file)
        print(f"archive: {short(str(file))}\nsha256: {digest}\ncheck it with: {command('verify', short(str(file)))}")


def export(place: str, optuna: str | None, trackers: Mapping[str, Any]) -> None:
    """Send the results folder at `place` to other tools.

    Args:
        place: path or URL of the results folder.
        optuna: storage in which to write the search as an Optuna study; None for none.
        trackers: the options of the tools that get the trials: arguments of `tracking.chosen`.

    Raises:
        BadRequest: a tool is not installed or cannot be reached.
        NotSent: a tool did not accept the trials.
    """
    from resnetlab.analysis.results import Results
    from resnetlab.tracking import chosen
    from resnetlab.tracking.feed import Feed

    results = Results.open(place)
    tools = chosen(results.study.name, **trackers)
    if optuna is not None:
        from resnetlab.search.optuna_export import write

        print(f"optuna: {write(results.study, results.folder, optuna)} trials in {without_secrets(optuna)}")
    feed = Feed(results.folder, tools)
    feed.catch_up()
    feed.close()
    for name, number in feed.held().items():
        if name not in feed.problems:
            print(f"{name}: {number} of {len(results.trials)} trials, all that have ended")
    if feed.problems:
        raise NotSent("; ".join(f"--{name}: {problem}" for name, problem in feed.problems.items()))
