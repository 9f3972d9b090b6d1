"""What the pages say, before it is HTML: one dictionary for each part of a page that changes by itself."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from resnetlab.analysis.learning_curves import learning_curves
from resnetlab.analysis.results import Results
from resnetlab.analysis.sweep_status import STAGES
from resnetlab.analysis.trial_outcomes import WORDS
from resnetlab.report.answer import answer
from resnetlab.report.formatting import DASH, duration, level, missing, settings, shown
from resnetlab.report.layout import Table
from resnetlab.report.rerun_command import debug_command, rerun_command
from resnetlab.report.terminal import Told
from resnetlab.storage.layout import ERRORS, PRINTED
from resnetlab.study.metrics import METRICS
from resnetlab.study.records import Phase, Status
from resnetlab.web.curves import Chart, chart
from resnetlab.web.studies import Log

LINES = 60  # curves of the chart
ROWS = 50  # trials of a page
LOST = (Status.FAILED, Status.OUT_OF_MEMORY, Status.DIVERGED)


@dataclass(frozen=True)
class _Links:
    """Addresses of pages of the study `name`."""

    name: str

    def trial(self, number: int) -> str:
        return f"/trial/{number}/{quote(self.name)}"


def study(said: Told, name: str, before: int | None = None) -> dict[str, dict[str, Any]]:
    """The parts of the page of the study that is served as `name`. before: show the trials with numbers below this one;
    None for the last."""
    to = _Links(name)
    return {
        "now": _now(said),
        "answer": {"answer": answer(said.findings), "next": said.next, "report": f"/report/{quote(name)}"},
        "failures": _failures(said, to),
        "workers": {"table": _workers(said, to), "state": said.state},
        "curves": _curves(said.findings.results, said.standing.best_trial, to),
        "rungs": {"table": _rungs(said.findings.results)},
        "trials": _trials(said.findings.results, before, to),
    }


def _now(said: Told) -> dict[str, Any]:
    now, by = said.standing, said.holder
    facts = [("Phase", STAGES[now.phase]), ("Trials", _counts(said))]
    facts += [("Looks", now.looks or said.looks)] if said.looks else []
    best = f"{now.searched.show(now.best)} {now.searched.words}"
    facts += [("Best so far", f"{best}, trial {now.best_trial}")] if now.best is not None else []
    speed = f", {now.images_per_second:,.0f} images/s" if now.images_per_second else ""
    facts += [("Done", f"{now.epochs:,} epochs{speed}")]
    if now.elapsed is not None:
        facts += [("Running for", duration(now.elapsed))]
    facts += [("Cluster", now.shared)] if now.shared else []
    if by is not None:
        facts += [("Driver", f"{by.host}, pid {by.pid}; last sign of life {max(0.0, by.silent):.0f} s ago")]
    return {"said": said, "now": now, "facts": facts, "left": left(said)}


def left(said: Any) -> str:
    """`about 3 min 20 s left`, empty where that cannot be told. said: has a `standing`."""
    now = said.standing
    then = ", then confirming" if now.then_confirming else ""
    return f"about {duration(now.left)} left{then}" if now.left is not None else ""


def _counts(said: Told) -> str:
    now = said.standing
    under_way = [(now.working, "running"), (now.starting, "starting"), (now.waiting, "waiting")]
    ended = [
        (number, WORDS[Status(status)])
        for status, number in sorted(now.counts.items())
        if status not in (Status.RUNNING, Status.WAITING)
    ]
    return ", ".join(f"{number:,} {word}" for number, word in [*under_way, *ended] if number) or "none yet"


def _failures(said: Told, to: _Links) -> dict[str, Any]:
    results = said.findings.results
    rows = [
        (one, WORDS[Status(one.status)], to.trial(one.number), debug_command(results, said.place, one))
        for one in said.failed
    ]
    return {"failures": rows, "place": said.place, "unmade": said.unmade, "typed": _where()}


def _where() -> str:
    """Where the commands of a page are to be typed."""
    return f"{platform.node()}, in {Path.cwd()}"


def _workers(said: Told, to: _Links) -> Table | None:
    """What each worker does; None while none does anything."""
    results, metric = said.findings.results, said.standing.searched
    running = results.trials[results.trials["status"] == Status.RUNNING]
    if said.holder is None or running.empty:
        return None
    mine = results.epochs[results.epochs["trial_id"].isin(running["trial_id"])]
    pace = (mine["train_seconds"] + mine["eval_seconds"].fillna(0)).groupby(mine["trial_id"]).mean()
    now = pd.Timestamp.now("UTC")
    rows = [
        [
            (row.number, to.trial(row.number)),
            _what(row),
            f"{row.epochs_run} of {row.epochs_allowed}" if row.epochs_run else "starting",
            shown(getattr(row, metric.name), metric),
            duration(pace.get(row.trial_id)),
            duration((now - row.started).total_seconds()),
            DASH if missing(row.host) else f"{row.host}, {row.device}",
        ]
        for row in running.itertuples(index=False)
    ]
    headings = ["Trial", "Does", "Epochs", metric.label, "An epoch takes", "Since", "Where"]
    return Table(headings, ["link", "medium", "number", "number", "number", "number", "text"], rows)


def _what(row: Any) -> str:
    if row.phase in (Phase.EXPLORE, Phase.AUDIT):
        return "explores" if row.phase == Phase.EXPLORE else "explores, exempt from stopping"
    return f"{'confirms' if row.phase == Phase.CONFIRM else 'pilot of'} {row.arm}, seed block {row.seed_block}"


def _curves(results: Results, best: str, to: _Links) -> dict[str, Any]:
    """Of the trials under way and those asked for last."""
    trials, metric = results.trials, results.study.searched
    begun = trials[trials["epochs_run"].fillna(0) > 0]
    running = begun["status"] == Status.RUNNING
    some = pd.concat([begun[~running].tail(max(0, LINES - int(running.sum()))), begun[running]])
    kinds = {int(number): "now" for number in begun.loc[running, "number"]}
    kinds |= {int(number): "best" for number in some.loc[some["trial_id"] == best, "number"]}
    allowed = int(some["epochs_allowed"].max()) if len(some) else 1
    drawn = _chart(results, some, allowed, kinds)
    return {"chart": drawn, "of": len(begun), "running": int(running.sum()), "metric": metric, "to": to}


def _chart(results: Results, trials: pd.DataFrame, epochs: int, kinds: dict[int, str]) -> Chart | None:
    metric = results.study.searched
    mine = results.epochs[results.epochs["trial_id"].isin(trials["trial_id"])]
    found = learning_curves(trials, mine, metric.name)
    return chart(found, metric, epochs, kinds) if found else None


def _rungs(results: Results) -> Table | None:
    """What was decided at each rung; None while nothing was."""
    metric = results.study.searched
    rows = [
        [
            f"{rung}",
            f"{group['epoch'].iloc[0]}",
            f"{len(group):,}",
            *(f"{(group['decision'] == decision).sum():,}" for decision in ("continue", "stop", "exempt")),
            shown(group.loc[group["recorded"].idxmax(), "cutoff"], metric),
            shown((metric.sign * group["value"]).max() * metric.sign, metric),
        ]
        for rung, group in results.rungs.groupby("rung")
    ]
    headings = ["Rung", "After epoch", "Trials", "Go on", "Stopped", "Exempt", "Last cutoff", "Best"]
    return Table(headings, ["number"] * len(headings), rows) if rows else None


def _trials(results: Results, before: int | None, to: _Links) -> dict[str, Any]:
    metric, trials = results.study.searched, results.trials
    shown_here = trials if before is None else trials[trials["number"] < before]
    here = shown_here.sort_values("number").tail(ROWS).iloc[::-1]
    arms = bool(here["arm"].notna().any())
    rows = [
        [
            (row["number"], to.trial(row["number"])),
            row["phase"],
            WORDS[Status(row["status"])],
            f"{row['epochs_run']} of {row['epochs_allowed']}",
            shown(row[metric.name], metric),
            *([DASH if missing(row["arm"]) else row["arm"]] if arms else []),
            settings({name: row[name] for name in results.factors}),
        ]
        for row in here.to_dict("records")
    ]
    headings = ["Trial", "Phase", "Status", "Epochs", metric.label, *(["Arm"] if arms else []), "Settings"]
    kinds = ["link", "text", "text", "number", "number", *(["text"] if arms else []), "long"]
    older = int(here["number"].min()) if len(shown_here) > len(here) else None
    return {"table": Table(headings, kinds, rows), "of": len(trials), "older": older, "newest": before is None}


def trial(said: Told, number: int, end_of: Callable[[str], Log | None]) -> dict[str, dict[str, Any]]:
    """The one part of a trial's page; none where there is no such trial. end_of: a file of the folder -> its end."""
    results, metric = said.findings.results, said.findings.results.study.searched
    found = results.trials[results.trials["number"] == number]
    if found.empty:
        return {}
    row = found.iloc[0]
    lost = Status(row["status"]) in LOST
    logs = [
        {"title": title, "file": f"{said.place}/{name}", "end": end}
        for title, name in (
            ("Failures", f"{ERRORS}/{row['trial_id']}.txt"),
            ("Printed", f"{PRINTED}/{row['trial_id']}.txt"),
        )
        if (end := end_of(name)) is not None
    ]
    facts = [
        ("Trial", row["trial_id"]),
        ("Phase", row["phase"] + ("" if missing(row["arm"]) else f", arm {row['arm']}")),
        ("Epochs", f"{row['epochs_run']} of {row['epochs_allowed']}"),
        (metric.label, shown(row[metric.name], metric)),
        ("Seed", f"{row['seed']}"),
        ("Restarts", f"{row['restarts']}"),
        ("Where", DASH if missing(row["host"]) else f"{row['host']}, {row['device']}"),
        ("Asked for", _time(row["started"])),
        ("Ended", _time(row["ended"]) if Status(row["status"]).ended else DASH),
    ]
    again = rerun_command(results, said.place, str(number), *(["--debug"] if lost else []))
    kinds = {number: "now" if row["status"] == Status.RUNNING else "best"}
    content = {
        "number": number,
        "status": WORDS[Status(row["status"])],
        "lost": lost,
        "reason": "" if missing(row["reason"]) else row["reason"],
        "facts": [(name, text) for name, text in facts if not missing(text)],
        "settings": _settings(row["config"]),
        "logs": logs,
        "worker": _of_the_worker(row["trial_id"]),
        "host": "its machine" if missing(row["host"]) else row["host"],
        "again": again,
        "typed": _where(),
        "chart": _chart(results, found, int(row["epochs_allowed"]), kinds),
        "epochs": _epochs(results, row["trial_id"]),
    }
    return {"trial": content}


def _of_the_worker(trial_id: str) -> str:
    """The command that shows what a trial's worker wrote to stderr meanwhile, on the machine of that worker."""
    return f"sed -sn '/trial {trial_id} begins/,/trial .* begins/p' /tmp/ray/session_2*/logs/worker-*.err"


def _time(value: Any) -> str:
    return DASH if missing(value) else f"{value:%Y-%m-%d %H:%M:%S} UTC"


def _settings(text: Any) -> Sequence[tuple[str, str]]:
    config = json.loads(text) if isinstance(text, str) else {}
    flat = {f"data.{name}": value for name, value in (config.pop("data", None) or {}).items()} | config
    return [
        (name, level(value) if not isinstance(value, list | dict) else json.dumps(value))
        for name, value in sorted(flat.items())
        if value is not None
    ]


def _epochs(results: Results, trial_id: str) -> Table | None:
    """What the trial reported after each epoch, and what was decided then."""
    epochs = results.epochs[results.epochs["trial_id"] == trial_id].sort_values("epoch")
    if epochs.empty:
        return None
    rungs = results.rungs[results.rungs["trial_id"] == trial_id]
    said = {row.epoch: f"rung {row.rung}: {row.decision}" for row in rungs.itertuples(index=False)}
    known = {name: METRICS[name] for name in ("train_loss", "val_loss", "lr")}
    if results.study.experiment:  # whose numbers have units of their own
        known = {name: number.metric(name) for name, number in results.study.numbers.items()}
    known = {results.study.searched.name: results.study.searched} | known
    metrics = [metric for name, metric in known.items() if name in epochs and epochs[name].notna().any()]
    rows = [
        [
            f"{row['epoch']}",
            *(shown(row[metric.name], metric) for metric in metrics),
            duration(row["train_seconds"] + (0 if missing(row["eval_seconds"]) else row["eval_seconds"])),
            said.get(row["epoch"], ""),
        ]
        for row in epochs.to_dict("records")
    ]
    headings = ["Epoch", *(metric.label for metric in metrics), "Took", "Decided"]
    return Table(headings, ["number"] * (len(headings) - 1) + ["text"], rows)
