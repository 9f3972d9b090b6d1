"""What the scripts in `sweeps/` share: options to a study, endings to exit codes, the last words on the screen.

The roof of the house: the only place that knows both wings.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args, get_origin

from resnetlab import console
from resnetlab.commands import short
from resnetlab.errors import BadRequest, NotReproduced, NotSent, ResnetlabError, TrialsFailed
from resnetlab.experiment.metrics import METRICS
from resnetlab.paths import user_path, writable_folder
from resnetlab.provenance import without_secrets
from resnetlab.study import Study, load_study
from resnetlab.study.yaml_io import parse_value
from resnetlab.vision.data import check
from resnetlab.wording import plural

if TYPE_CHECKING:
    from resnetlab.driver.rerun import Rerun
    from resnetlab.report.findings import Findings
    from resnetlab.report.terminal import Told
    from resnetlab.reproduction.verdict_tables import Held
    from resnetlab.storage.results_folder import ResultsFolder

JSON = "print one JSON object, for scripts, on stdout; everything else goes to stderr"
RETRY = "run trials again that failed or ran out of memory, once the cause is mended"
WEIGHTS = "file of weights (safetensors or torch), for trials that ask for torchvision's weights by name"


def start(app: Callable[[], Any]) -> None:
    """Run the Typer app of a script, with standard streams that stop no work (`resnetlab.console`)."""
    with console.streams():
        app()


@contextmanager
def endings() -> Iterator[None]:
    """Around all that a script does: turn a ResnetlabError into its text on stderr and its exit code."""
    try:
        _check_here()
        yield
    except ResnetlabError as error:
        _leave(f"error: {error}" if error.exit_code != 130 else f"\n{error}", error.exit_code)
    except KeyboardInterrupt:
        _leave("\ninterrupted", 130)


def _check_here() -> None:
    try:
        Path.cwd()
    except FileNotFoundError:
        raise BadRequest("the current folder has been deleted: change to one that exists") from None


def _leave(text: str, code: int) -> NoReturn:
    print(without_secrets(text), file=sys.stderr)
    sys.exit(code)


def load(name: str, studies: Path, changes: Mapping[str, Any], settings: Sequence[str]) -> Study:
    """The study called `name` in `studies`, or in the file `name`, with the command line's changes."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        user_path(name, "--study")
    if path.suffix not in (".yaml", ".yml"):
        path = studies / f"{name}.yaml"
        if "/" in name or not path.is_file():
            known = ", ".join(sorted(file.stem for file in studies.glob("*.yaml"))) or "none"
            raise BadRequest(f"--study {name}: no such study in {studies.name}/ (allowed: {known}, or a .yaml file)")
    elif not path.is_file():
        raise BadRequest(f"--study {name}: no such file")
    wanted = {key: value for key, value in changes.items() if value is not None}
    study = load_study(path, wanted | parsed(settings))
    try:
        check(study.dataset)
    except BadRequest as error:
        raise BadRequest(f"{path}: {error}") from None
    return study


def parsed(settings: Sequence[str]) -> dict[str, Any]:
    """`key=value` of each `--set` as dotted key: value. BadRequest."""
    wanted = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise BadRequest(f"--set {setting}: need key=value, e.g. search.trials=40")
        wanted[key] = parse_value(value)
    return wanted


def print_settings(studies: Path) -> None:
    """The studies at hand, and what a study file can say, with defaults."""
    from resnetlab.study import ConfirmSettings, Resources, SearchSettings
    from resnetlab.study.trial_config import DEFAULTS, READS, DataConfig, Frozen, TrialConfig

    print("studies:", ", ".join(sorted(file.stem for file in studies.glob("*.yaml"))))
    sections: dict[str, type[Frozen]] = {
        "dataset": DataConfig,
        "search": SearchSettings,
        "confirm": ConfirmSettings,
        "resources": Resources,
        "baseline and factors": TrialConfig,
    }
    for section, model in sections.items():
        print(f"\n{section}:")
        for name, info in model.model_fields.items():
            if name in ("data", "seed", "split_seed", "epochs") and model is TrialConfig:
                continue
            default = {**READS["resnet"], **DEFAULTS}.get(name, info.default) if model is TrialConfig else info.default
            shown = "required" if info.is_required() else f"default {default}"
            kind = _kind(info.annotation)
            print(f"  {name} ({kind}, {shown}){': ' + info.description if info.description else ''}")


def _kind(annotation: Any) -> str:
    """A field's type as people write its values."""
    if get_origin(annotation) is Literal:
        return " | ".join(map(str, get_args(annotation)))
    inner = [part for part in get_args(annotation) if part is not type(None)]
    if len(inner) > 1 and any(get_origin(part) is Literal for part in inner):
        return " | ".join(map(_kind, inner))
    if get_origin(annotation) is tuple:
        return "list"
    if inner:
        return _kind(inner[0])
    return {"str": "text", "int": "whole number", "float": "number", "bool": "true | false"}[annotation.__name__]


def print_plan(study: Study, storage: str, **how: Any) -> None:
    """The dry run: what would be run and cost, what it could find, and what the results folder holds already.

    how: further `tuning.run.Options`. Raises what the run would raise before its first trial.
    """
    from resnetlab.analysis.confirm.power_preview import foresight
    from resnetlab.analysis.results import Results
    from resnetlab.driver import request
    from resnetlab.driver.dry_run import describe
    from resnetlab.driver.run import Options, accept

    how["weights"] = (given := how.get("weights")) and user_path(given, "--weights")
    options = Options(storage=storage, **how)
    taken = accept(study, options, dry=True)
    study, folder = taken.study, taken.folder
    standing = request.look(study, folder, {found.hash for found in taken.datasets.values()}, options.stage)
    results = Results.open(folder.place) if folder.read("study.json") is not None else None
    for line in [*describe(study, taken.datasets, options.stage), *foresight(study, results), *standing]:
        print(line)


def run(
    study: Study,
    storage: str,
    as_json: bool = False,
    tools: Mapping[str, Any] | None = None,
    published: bool = False,
    **how: Any,
) -> None:
    """Run or continue `study`, then write and announce its report, also where every trial failed; TrialsFailed where
    none has a result, or a planned comparison could not be made.

    tools: that follow it, as options of `tracking.chosen`. published: print what was published beside it. how: further
    `tuning.run.Options`.
    """
    from resnetlab.driver.run import Options, results_folder, run_study
    from resnetlab.tracking import chosen
    from resnetlab.tracking.feed import live

    folder = results_folder(study, storage)
    how["weights"] = (given := how.get("weights")) and user_path(given, "--weights")
    trackers = chosen(study.name, **tools) if tools else []
    failed: TrialsFailed | None = None
    with console.people_on_stderr(as_json), live(folder, trackers, print, tools or {}):
        try:
            run_study(study, Options(storage=storage, **how))
        except TrialsFailed as error:
            failed = error
    told = report(folder, as_json)
    if published:
        print_published(study, storage)
    if failed is not None:
        raise failed
    if told.unmade:
        many = f"{len(told.unmade)} planned comparison{'s' * (len(told.unmade) > 1)} could not be made"
        again = any(one.remedy for one in told.failed)
        mend = "; mend the cause that is named above, then run them again with --retry-failed" if again else ""
        raise TrialsFailed(f"{study.name}: {many}, because all runs of an arm failed{mend}")


def print_published(study: Study, storage: str) -> None:
    """The published numbers and claims of `study` beside what its results folder measured."""
    from rich.console import Console
    from rich.table import Table

    from resnetlab.driver.run import results_folder
    from resnetlab.reproduction import verdict_tables

    found, screen = _held(results_folder(study, storage).place), Console()
    reasons: dict[str, int] = {}
    if found is None:
        return
    for title, verdicts in (("Numbers", found.numbers), ("Claims", found.claims)):
        table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
        for heading in ("arm", "what", "printed", "measured", "interval", "n", "difference", "verdict"):
            table.add_column(heading, overflow="fold", no_wrap=heading in ("n", "measured", "difference"))
        for row in verdicts:
            said = [*row.reasons, *([row.note] if row.note else [])]
            why = [str(reasons.setdefault(reason, len(reasons) + 1)) for reason in said]
            table.add_row(
                verdict_tables.arms(row),
                row.what if title == "Numbers" else row.printed,
                row.printed if title == "Numbers" else "",
                verdict_tables.number(row.mean, row.unit),
                verdict_tables.spread(row),
                str(row.n),
                verdict_tables.number(row.difference, row.unit),
                row.verdict + (f" ({', '.join(why)})" if why else ""),
            )
        screen.print(table, "")
    for reason, number in reasons.items():
        screen.print(f"({number}) {reason}", highlight=False)


def published_table(place: Path) -> str:
    """A Markdown table of the reruns of published studies among the results folders in `place`. BadRequest."""
    from resnetlab.reproduction import verdict_tables

    if not user_path(place, "--table").is_dir():
        raise BadRequest(f"--table {place}: not a folder")
    found = [_held(str(file.parent)) for file in sorted(place.glob("*/study.json"))]
    reruns = [one for one in found if one is not None]
    return verdict_tables.markdown(reruns) if reruns else "No folder here has a rerun of a published study."


def _held(place: str) -> Held | None:
    """With the parameters that each arm's network has for the text's images and classes."""
    from resnetlab.analysis.results import Results
    from resnetlab.driver.dry_run import arm_facts
    from resnetlab.reproduction import verdict_tables

    results = Results.open(place)
    text = verdict_tables.text_of(results.study)
    return verdict_tables.held(results, arm_facts(results.study, text.data.shape, text.data.classes)) if text else None


def report(folder: ResultsFolder, as_json: bool = False) -> Told:
    """Write the report; print its answer and where it lies. Gives what was told."""
    from resnetlab.analysis.results import Results
    from resnetlab.report.build import build
    from resnetlab.report.findings import Findings

    findings = Findings(Results.open(folder.place))
    build(findings)
    return _show(findings, folder.place, as_json, standing=False)


def show(place: str, as_json: bool = False, standing: bool = True) -> Told:
    """Print what a results folder has to say, running or ended; as one JSON object where a script asks."""
    from resnetlab.analysis.results import Results
    from resnetlab.report.findings import Findings

    return _show(Findings(Results.open(place)), place, as_json, standing)


def _show(findings: Findings, place: str, as_json: bool, standing: bool) -> Told:
    from rich.console import Console

    from resnetlab.report import terminal

    told = terminal.told(findings, short(place))
    if as_json:
        console.print_json(told.as_json())
        return told
    plain = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    terminal.show(told, Console(width=terminal.PLAIN if plain else None, highlight=False), standing)
    return told


def export(place: str, optuna: str | None, tools: Mapping[str, Any]) -> None:
    """Send a results folder to tools: the search as an Optuna study in the storage `optuna`, its trials to
    `tools` (options of `tracking.chosen`). NotSent where a tool did not take them.
    """
    from resnetlab.analysis.results import Results
    from resnetlab.tracking import chosen
    from resnetlab.tracking.feed import Feed

    if optuna is None and not any(tools.values()):
        raise BadRequest("nothing to do: give --optuna, --tensorboard, --mlflow or --wandb")
    results = Results.open(place)
    trackers = chosen(results.study.name, **tools)
    if optuna is not None:
        from resnetlab.search.optuna_export import write

        print(f"optuna: {write(results.study, results.folder, optuna)} trials in {without_secrets(optuna)}")
    feed = Feed(results.folder, trackers)
    feed.catch_up()
    feed.close()
    for name, number in feed.held().items():
        if name not in feed.problems:
            print(f"{name}: {number} ended trials of {len(results.trials)}")
    if feed.problems:
        raise NotSent("; ".join(f"--{name}: {problem}" for name, problem in feed.problems.items()))


def one_figure(place: str, name: str, out: Path, columns: int | None) -> None:
    """Write one figure of a results folder to the file `out`; print where it lies, and its caption."""
    from resnetlab.report import build

    said = build.one_figure(place, name, user_path(out, "--out"), columns)
    print(f"{out}\n{said}")


def remake(place: str, as_json: bool = False) -> None:
    """Write the report of a results folder from its tables, and print where it lies. TrialsFailed where no trial has
    finished; nothing is written then."""
    from resnetlab.analysis.results import Results
    from resnetlab.report.build import build
    from resnetlab.report.findings import Findings
    from resnetlab.study.records import Status

    results = Results.open(place)
    counts = results.trials["status"].value_counts()
    if not counts.get(Status.COMPLETE, 0) + counts.get(Status.STOPPED, 0):
        said = ", ".join(f"{n} {status.replace('_', ' ')}" for status, n in counts.items()) or "there is none"
        raise TrialsFailed(f"{results.folder.url}: no trial has finished, so there is nothing to report ({said})")
    findings = Findings(results)
    made = build(findings)
    if as_json:
        _show(findings, place, as_json=True, standing=True)
    else:
        print(made)


def rerun(
    place: str, trial: str, data: str | None, device: str | None, export_to: Path | None, as_json: bool = False
) -> None:
    """Run one recorded trial again, say whether it came out as recorded, and export it. NotReproduced where it did not
    and seeds do not explain it."""
    from resnetlab.driver import rerun
    from resnetlab.storage.results_folder import ResultsFolder

    folder = ResultsFolder.at(place, "RESULTS")
    data = None if data is None else str(user_path(data, "--data"))
    row = rerun.find(folder, trial)
    if export_to is not None:
        from resnetlab.vision.training.export import export

        export_to = writable_folder(export_to, "--export")
    arm = f", arm {row['arm']}" if row["arm"] else ""
    say = partial(print, file=sys.stderr if as_json else sys.stdout)
    say(f"trial {row['trial_id']} (number {row['number']}, {row['phase']}{arm}; recorded as {row['status']})")
    found = rerun.rerun(folder, row, rerun.Place(data=data, device=device), say)
    verdict, agrees = judge(place, found)
    say(verdict)
    if export_to is not None:
        about = {"study": row["study"], "epochs": found.training.epoch, found.metric: found.measured}
        files = export(found.training, found.dataset.classes, export_to, about)
        say(f"exported: {', '.join(file.name for file in files)} in {short(str(export_to))}")
    if as_json:
        console.print_json(found.as_json() | {"agrees": agrees, "verdict": verdict})
    if not agrees:
        raise NotReproduced(f"trial {row['trial_id']} did not come out as recorded")


def judge(place: str, found: Rerun) -> tuple[str, bool]:
    """What a rerun shows, in words, and whether it agrees with what was recorded: to the last bit, or within what seeds
    alone do."""
    from resnetlab.analysis.confirm.power import seed_noise
    from resnetlab.analysis.results import Results

    if found.identical:
        tested = " and every test prediction" if found.metric == "test_accuracy" else ""
        epochs = plural(found.compared, "epoch")
        return f"identical: every recorded number of {epochs}{tested}, to the last bit", True
    if not found.compared and not found.differences:
        return "nothing to compare: no epoch of this trial was recorded", True
    lines = [f"not identical: {len(found.differences)} values differ, first {found.differences[0]}"]
    if found.must_be_identical:
        return "\n".join([*lines, "nothing that is recorded has changed, and on a CPU the same gives the same"]), False
    lines += [f"changed since: {'; '.join(found.changed) or 'nothing that is recorded'}"]
    off = found.measured - found.recorded
    if off != off:
        return "\n".join([*lines, "no accuracy to compare"]), False
    results = Results.open(place)
    epoch = None if found.metric == "test_accuracy" else found.training.epoch
    noise = seed_noise(results, found.metric, epoch, without=found.row["trial_id"])
    label = METRICS[found.metric].label.lower()
    said = f"{label} {METRICS['effect'].scale * off:+.2f} points from the recorded one"
    if not noise.known:
        return "\n".join([*lines, f"{said}; seed noise was not measured in this folder, so it cannot be judged"]), False
    reach = noise.between_two()
    agrees = abs(off) <= reach
    within = "within" if agrees else "beyond"
    over = f"{noise.runs} runs of {plural(noise.arms, 'arm')}"
    measured = f"two seeds differ by up to {100 * reach:.2f} points in 95% of cases ({over})"
    return "\n".join([*lines, f"{within} the measured seed noise: {said}; {measured}"]), agrees
