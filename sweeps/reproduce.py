"""Rerun a published study and print what was measured beside what was printed. Without a name: list the studies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from resnetlab import cli
from resnetlab.reproduction import studies

STUDIES = Path(__file__).resolve().parent / "studies" / "published"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def main(
    study: Annotated[str | None, typer.Argument(help="a name from the list")] = None,
    seeds: Annotated[int | None, typer.Option(help="replicates of each arm; default: 3")] = None,
    scale: Annotated[float, typer.Option(help="share of the epochs and training images (a smoke run)")] = 1.0,
    data: Annotated[str | None, typer.Option(help="archive, folder of images by class, or folder of fonts")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster to join: `auto`, or host:port")] = None,
    storage: Annotated[str, typer.Option(help="folder or URL under which results/<study> lies")] = "results",
    weights: Annotated[Path | None, typer.Option(help=cli.WEIGHTS)] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help=cli.RETRY)] = False,
    settings: Annotated[list[str] | None, typer.Option("--set", help="key=value, any key of the study")] = None,
    table: Annotated[Path | None, typer.Option(help="print what the reruns in this folder said, as Markdown")] = None,
    json: Annotated[bool, typer.Option("--json", help=cli.JSON)] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the plan and its cost, and run nothing")] = False,
) -> None:
    with cli.endings():
        if table is not None:
            print(cli.published_table(table))
            return
        if study is None:
            print("\n".join(studies.listed(STUDIES)))
            return
        chosen = studies.study_of(STUDIES, study, seeds, scale, data, cli.parsed(settings or []))
        if dry_run:
            cli.print_plan(chosen, storage, address=address, weights=weights)
            return
        how: dict[str, Any] = {"address": address, "stage": "all", "weights": weights, "retry_failed": retry_failed}
        cli.run(chosen, storage, json, published=not json, **how)


if __name__ == "__main__":
    cli.start(app)
