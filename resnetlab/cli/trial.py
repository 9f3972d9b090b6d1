"""`resnetlab trial`: rerun one recorded trial, compare it with its record, and export its network."""

from __future__ import annotations

import math
import sys
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resnetlab import console
from resnetlab.cli import options
from resnetlab.cli.exit_codes import report_errors
from resnetlab.commands import short
from resnetlab.errors import BadRequest, NotReproduced, ResnetlabError, TrialsFailed
from resnetlab.paths import user_path, writable_folder
from resnetlab.wording import plural

if TYPE_CHECKING:
    from resnetlab.driver.rerun import Rerun


EXAMPLE = "results/default 12 --export model"
Device = StrEnum("Device", ["cpu", "cuda", "xpu", "mps"])


def main(
    context: typer.Context,
    place: options.Results,
    trial: Annotated[str, typer.Argument(metavar="TRIAL", help="trial_id, the beginning of one, or a trial number")],
    data: Annotated[
        str | None, typer.Option(help="folder or archive of the images, or folder of the additional fonts")
    ] = None,
    device: Annotated[
        Device | None, typer.Option(help="device to run on", show_default="the trial's own, if available")
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(help="output folder for the network: safetensors, torch.export program, config, example code"),
    ] = None,
    debug: Annotated[
        bool, typer.Option("--debug", help="run a trial that failed alone, and stop in pdb where it fails again")
    ] = False,
    json: options.Json = False,
) -> None:
    """Rerun one recorded trial, check that it gives the recorded results, and optionally export the trained network."""
    with report_errors():
        if debug:
            options.refuse_beside(context, "--debug", "export", "json")
            debug_trial(place, trial, data, device.value if device else None)
            return
        rerun_trial(place, trial, data, device.value if device else None, export, json)


def rerun_trial(
    place: str, trial: str, data: str | None, device: str | None, export_to: Path | None, as_json: bool = False
) -> None:
    """Rerun one trial of the results folder at `place`, print whether it reproduces, and export its network.

    Args:
        place: path or URL of the results folder.
        trial: its id, the beginning of its id, or its number.
        data: folder or archive of the images or fonts; None for where the dataset finds them by itself.
        device: `cpu`, `cuda` (ROCm too), `xpu`, `mps`, or None for the trial's own where it is available.
        export_to: folder for the trained network; None exports nothing.
        as_json: print one JSON object to stdout, and everything else to stderr.

    Raises:
        NotReproduced: the result differs from the record by more than seeds explain.
        BadRequest: no such trial, or a path or device that cannot be used.
        BadData: not the data of the trial.
    """
    from resnetlab.driver import rerun
    from resnetlab.storage.results_folder import ResultsFolder

    folder = ResultsFolder.at(place, "RESULTS")
    data = None if data is None else str(user_path(data, "--data"))
    row = rerun.find(folder, trial)
    if export_to is not None:  # before anything is trained
        export_to = writable_folder(export_to, "--export")
    say = partial(print, file=sys.stderr if as_json else sys.stdout)
    arm = f", arm {row['arm']}" if row["arm"] else ""
    say(f"trial {row['trial_id']} (number {row['number']}, {row['phase']}{arm}; recorded as {row['status']})")
    outcome = rerun.rerun(folder, row, rerun.Place(data=data, device=device), say)
    verdict, reproduced = judge(place, outcome)
    say(verdict)
    if export_to is not None:
        from resnetlab.vision.training.export import export

        if outcome.training is None or outcome.dataset is None:
            raise BadRequest(
                "--export: exports networks of the built-in experiment (allowed: none for a task of your own)"
            )
        known = {outcome.metric.name: outcome.measured} if outcome.metric else {}
        about = {"study": row["study"], "epochs": outcome.epochs} | known
        files = export(outcome.training, outcome.dataset.classes, export_to, about)
        say(f"exported: {', '.join(file.name for file in files)} in {short(str(export_to))}")
    if as_json:
        console.print_json(outcome.as_json() | {"agrees": reproduced, "verdict": verdict})
    if not reproduced:
        raise NotReproduced(f"trial {row['trial_id']} was not reproduced")


def debug_trial(place: str, trial: str, data: str | None, device: str | None) -> None:
    """Run one trial of the results folder at `place` in this process, up to and with the epoch in which it failed, and
    open Python's debugger where it fails.

    Arguments as of `rerun_trial`. Raises TrialsFailed once the debugger is left, BadRequest and BadData as
    `rerun_trial` does.
    """
    import pdb
    import traceback

    from resnetlab.driver import rerun
    from resnetlab.storage.results_folder import ResultsFolder

    folder = ResultsFolder.at(place, "RESULTS")
    row = rerun.find(folder, trial)
    print(f"trial {row['trial_id']} (number {row['number']}, {row['phase']}; recorded as {row['status']})")
    where = rerun.Place(data=None if data is None else str(user_path(data, "--data")), device=device, debug=True)
    try:
        rerun.rerun(folder, row, where, print)
    except ResnetlabError:  # says what is needed to run it
        raise
    except Exception as error:
        traceback.print_exception(error)
        sys.stderr.flush()
        pdb.post_mortem(error.__traceback__)
        cause = (str(error).splitlines() or [""])[0]
        raise TrialsFailed(f"trial {row['trial_id']} failed: {type(error).__name__}: {cause}") from None
    print(f"it did not fail this time: {row['reason']} was recorded" if row["reason"] else "it did not fail")


def judge(place: str, outcome: Rerun) -> tuple[str, bool]:
    """The verdict on a rerun, in words, and whether the trial was reproduced.

    A trial is reproduced if it is identical to the last bit; or, if something recorded has changed or a GPU computed
    it, if it differs by no more than two seeds do in 95% of cases in this folder.
    """
    if outcome.identical:
        predictions = " and every test prediction" if outcome.tested and outcome.training is not None else ""
        epochs = plural(outcome.compared, "epoch")
        return f"identical: every recorded number of {epochs}{predictions}, to the last bit", True
    if not outcome.compared and not outcome.differences:
        return "nothing to compare: no epoch of this trial was recorded", True
    lines = [f"not identical: {plural(len(outcome.differences), 'difference')}, first {outcome.differences[0]}"]
    if outcome.must_be_identical:
        lines.append("code, versions and machine are as recorded, so a CPU should give identical results")
        return "\n".join(lines), False
    lines.append(f"changed since: {'; '.join(outcome.changed) or 'nothing that is recorded'}")
    if math.isnan(outcome.measured - outcome.recorded):
        return "\n".join([*lines, "no result to compare"]), False
    line, reproduced = _against_seed_noise(place, outcome)
    return "\n".join([*lines, line]), reproduced


def _against_seed_noise(place: str, outcome: Rerun) -> tuple[str, bool]:
    """A line that compares the difference from the record with the noise of seeds, and whether it is within it."""
    from resnetlab.analysis.confirm.power import seed_noise
    from resnetlab.analysis.results import Results

    metric = outcome.metric
    assert metric is not None
    difference = outcome.measured - outcome.recorded
    epoch = None if outcome.tested else outcome.epochs
    noise = seed_noise(Results.open(place), metric.name, epoch, without=outcome.row["trial_id"])

    def size(value: float, sign: str = "") -> str:
        return f"{metric.scale * value:{sign}.{metric.digits}f} {metric.effect.unit}".rstrip()

    text = f"{metric.words} differs by {size(difference, '+')} from the recorded one"
    if not noise.known:
        return f"{text}; seed noise was not measured in this folder, so it cannot be judged", False
    limit = noise.between_two()
    reproduced = abs(difference) <= limit
    runs = f"{noise.runs} runs of {plural(noise.arms, 'arm')}"
    return (
        f"{'within' if reproduced else 'beyond'} the measured seed noise: {text}; "
        f"two seeds differ by up to {size(limit)} in 95% of cases ({runs})"
    ), reproduced
