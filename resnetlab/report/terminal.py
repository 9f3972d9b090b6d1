"""A results folder as a terminal shows it, running or ended: where it stands, what is concluded, what to do next.

From the tables alone, by whoever may read them; a sweep that runs is known by its lease.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from resnetlab import console as streams
from resnetlab.analysis import failures, time_spent
from resnetlab.analysis.confirm.effects_table import TURNS
from resnetlab.analysis.failures import Failure
from resnetlab.analysis.results import Results
from resnetlab.analysis.sweep_status import SweepStatus, time_left
from resnetlab.analysis.trial_outcomes import full_budget
from resnetlab.commands import command, continued
from resnetlab.report.answer import answer, chosen_run, ranked
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import EFFECT, asked, interval, missing, p_value, signed
from resnetlab.report.rerun_command import debug_command, rerun_command
from resnetlab.storage.control import asked as request_to
from resnetlab.storage.lease import Holder, holder
from resnetlab.study.metrics import Metric
from resnetlab.study.records import Phase, Status
from resnetlab.wording import plural, seconds_of

PLAIN = 100  # columns where there is no terminal
ROWS = 10  # comparisons in the short table; all that are confirmed have their place
KEPT = ("name", "estimand", "estimate", "low", "high", "n", "n_reference", "p", "p_adjusted", "verdict", "note")
BUDGET = re.compile(r" --time-budget[ =]\S+")
COLOURS = {"effect": "bold green", "equivalent": "green", "inconclusive": "yellow"}


@dataclass(frozen=True)
class Told:
    """state: `running`, `paused`, `finished` (nothing is left of what was planned) or `unfinished`. found: the effects,
    ranked. declared: which of them a hypothesis asked for before the runs. next: a command, `` where there is nothing
    to do."""

    findings: Findings
    place: str
    holder: Holder | None
    state: str
    standing: SweepStatus
    lead: str
    best: str
    found: pd.DataFrame
    declared: list[bool]
    report: str
    next: str
    failed: Sequence[Failure]
    unmade: Sequence[str]  # planned comparisons for which runs are missing that failed
    looks: str = ""  # what is settled and what still runs, of a plan that looks at its runs
    time: Sequence[str] = ()  # what a time budget allowed, and what more would

    def as_json(self) -> dict[str, Any]:
        """For scripts. Values and effects are as in the tables: accuracies are fractions."""
        standing, by, held = self.standing, self.holder, self.findings.published
        rows = self.found[[*KEPT]].assign(declared=self.declared).astype(object)
        verdicts = {"numbers": held.numbers, "claims": held.claims} if held else {}
        found = {
            "study": standing.study,
            "state": self.state,
            "phase": standing.phase,
            "planned": standing.planned,
            "ended": standing.ended,
            "counts": dict(standing.counts),
            "epochs": standing.epochs,
            "images_per_second": standing.images_per_second or None,
            "seconds_left": standing.left,
            "best": {"trial_id": standing.best_trial, standing.searched.name: standing.best}
            if standing.best_trial
            else None,
            "asked": standing.asked or None,
            "shared": standing.shared or None,
            "holder": {"host": by.host, "pid": by.pid, "since": by.since, "heard": by.silent} if by else None,
            "answer": f"{self.lead} {self.best}",
            "effects": rows.to_dict("records"),
            "hypotheses": self.findings.hypotheses[["hypothesis", "verdict"]].to_dict("records") or None,
            "published": {kind: [asdict(one) for one in some] for kind, some in verdicts.items()} or None,
            "failures": [
                asdict(one) | {"debug": debug_command(self.findings.results, self.place, one)} for one in self.failed
            ],
            "not_made": self.unmade,
            "looks": self.looks or None,
            "time_budget": list(self.time) or None,
            "report": self.report or None,
            "next": self.next or None,
        }
        return dict(_plain(found))


def _plain(value: Any) -> Any:
    """As JSON has it: no NaN, no NumPy numbers."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if missing(value) else value


def told(findings: Findings, place: str) -> Told:
    """What there is to say of the folder, which people reach at `place`."""
    results = findings.results
    held = holder(results.folder)
    running = held is not None and held.alive
    standing = _standing(results, held if running else None)
    exploring = results.plan is None and (results.study.confirm.design != "none" or bool(results.study.arms))
    left = standing.ended < standing.planned or exploring
    state = "paused" if standing.paused else "running" if running else "unfinished" if left else "finished"
    said = answer(findings)
    failed, unmade = findings.failures, findings.unmade
    rows = ranked(findings.effects.assign(declared=[not free for free in findings.exploratory]))
    there = results.folder.changed("report.html") is not None
    shown = results.folder.url if "://" in place else place.rstrip("/")  # a URL's options belong to no file in it
    report = f"{shown}/report.html" if there else ""
    return Told(
        findings,
        shown,
        held if running else None,
        state,
        standing,
        said.lead,
        said.best,
        rows.drop(columns="declared"),
        rows["declared"].tolist(),
        report,
        next((one.remedy for one in failed if unmade and one.remedy), "") or _next(findings, state, place),
        failed,
        unmade,
        findings.looks.line() if findings.looks else "",
        time_spent.in_words(results),
    )


def _standing(results: Results, held: Holder | None) -> SweepStatus:
    study, plan, trials = results.study, results.plan, results.trials
    ours = "" if plan is None else plan.plan_hash  # runs of plans that were replaced are not this sweep's
    trials = trials[(trials["phase"] != Phase.CONFIRM) | (trials["plan_hash"] == ours)]
    first = study.explore_trials + study.confirm.pilot
    searching = trials[trials["phase"] != Phase.CONFIRM]
    over = plan is not None and plan.design != "arms" and bool(searching["status"].map(_ended).all())
    if plan is not None and (plan.time is not None or over):  # what there was no time for, or nothing left to propose
        first = len(searching)
    planned = first + failures.planned_runs(results)
    searched = study.searched
    explored = full_budget(results.explore).dropna(subset=searched.name)
    top = explored.loc[(searched.sign * explored[searched.name].astype(float)).idxmax()] if len(explored) else None
    now = trials[trials["status"] == Status.RUNNING]
    working = now[now["epochs_run"].fillna(0) > 0]
    ended = trials["status"].map(_ended).astype(bool)
    if plan is None and held is None and not study.arms and ended.all():
        planned = max(len(trials), study.confirm.pilot)  # all that the search found to propose
    elapsed = time.time() - held.since if held else None
    request = request_to(results.folder) if held else None
    asked = request.what if request else ""
    done = int((trials["ended"] >= pd.Timestamp(held.since, unit="s", tz="UTC")).sum()) if held else 0  # since it began
    return SweepStatus(
        study=study.name,
        phase="explore" if plan is None else "confirm",
        planned=planned,
        counts={str(status): int(number) for status, number in trials["status"].value_counts().items()},
        working=len(working) if held else 0,
        starting=len(now) - len(working) if held else 0,
        waiting=int((trials["status"] == Status.WAITING).sum()) if held else 0,
        waits_for=str((results.sweep.get("waiting") or {}).get("for") or "") if held else "",
        epochs=int(trials["epochs_run"].fillna(0).sum()),
        images_per_second=_speed(results, working) if held else 0.0,
        searched=searched,
        best=float(top[searched.name]) if top is not None else None,
        best_trial=str(top["trial_id"]) if top is not None else "",
        elapsed=elapsed,
        left=time_left(elapsed, done, planned - int(ended.sum())),
        then_confirming=plan is None and study.confirm.design != "none",
        asked=asked,
        paused=asked == "pause" and bool(results.sweep.get("paused")),
        shared=str(results.sweep.get("shared") or "") if held else "",
    )


def _ended(status: str) -> bool:
    return Status(status).ended


def _speed(results: Results, working: pd.DataFrame) -> float:
    """Images trained on a second by the trials under way together, the time of evaluation counted in."""
    epochs = results.epochs[results.epochs["trial_id"].isin(working["trial_id"])]
    last = epochs.sort_values("epoch").groupby("trial_id").last()
    rate = last["images_per_second"] * last["train_seconds"] / (last["train_seconds"] + last["eval_seconds"])
    return float(rate.sum())


def _next(findings: Findings, state: str, place: str) -> str:
    results = findings.results
    if state == "running":
        return ""
    if state == "paused":
        return command("resume", place)
    if state == "unfinished":
        began = failures.PHASE.sub("", str(results.sweep.get("command") or ""))
        if budget := results.study.time_budget:
            began = f"{BUDGET.sub('', began)} --time-budget {2 * seconds_of(budget) / 60:g}m"
        return continued(began, results.folder.path, results.sweep.get("directory"))
    name, sign = results.study.searched.name, results.study.searched.sign
    runs = full_budget(results.confirm if results.plan is not None else results.explore).dropna(subset=name)
    if runs.empty:
        return ""
    if results.plan is not None and findings.best:
        chosen = chosen_run(findings, findings.best[0].arm)["number"]
    else:
        chosen = runs.loc[(sign * runs[name].astype(float)).idxmax(), "number"]
    export = [] if results.study.experiment else ["--export", "model"]
    return rerun_command(results, place, str(chosen), *export)


def conclusions(found: pd.DataFrame, marks: Sequence[str], width: int, metric: Metric = EFFECT) -> Table | None:
    """The comparisons in short, from the ranked effects; None where none has an estimate. marks: after each verdict."""
    if found["estimate"].isna().all():
        return None
    most, unit = _most(found), metric.unit or "effect"
    wide, narrow = width >= 90, width < 60
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("comparison", overflow="fold")
    headings = [f"{unit}, 95% interval"] if narrow else [unit, "95% interval"]
    for heading in [*headings, *(["n", "adjusted p"] if wide else [])]:
        table.add_column(heading, justify="right", min_width=min(15, len(heading)), no_wrap=not narrow)
    table.add_column("verdict", min_width=14)
    for row, mark in zip(found.head(most).itertuples(index=False), marks, strict=False):
        size = [signed(row.estimate, metric=metric), "" if missing(row.low) else interval(row.low, row.high, metric)]
        runs = [f"{row.n:.0f} / {row.n_reference:.0f}", p_value(row.p_adjusted)] if wide else []
        verdict = f"{row.verdict}{mark}"
        colour = COLOURS.get(str(row.verdict), "dim")
        table.add_row(asked(row), *(["\n".join(size)] if narrow else size), *runs, Text(verdict, style=colour))
    return table


def _numbers(claim: Any, metric: Metric) -> str:
    """What the verdict on a hypothesis rests on: ` (+10.09 points, 90% interval +9.10 … +11.08)`."""
    if missing(claim.estimate):
        return ""
    sure = "" if missing(claim.low) else f", {claim.confidence:.0%} interval {interval(claim.low, claim.high, metric)}"
    return f" ({signed(claim.estimate, unit=True, metric=metric)}{sure})"


def unadjusted(said: Told) -> list[bool]:
    """Which of the ranked comparisons have an interval without 0, but are not confirmed beside the others."""
    found, plan = said.found, said.findings.results.plan
    outside = (found["low"].astype(float) > 0) | (found["high"].astype(float) < 0)
    open_ = (found["verdict"] == "inconclusive") & (found["p_adjusted"] > (plan.alpha if plan else 1.0))
    return [bool(both) for both in outside & open_]


def mixed(said: Told) -> bool:
    """Some comparisons were asked for beforehand, and some were not."""
    return len(set(said.declared)) > 1


def left_out(found: pd.DataFrame) -> int:
    """Comparisons that the short table has no place for."""
    return max(0, len(found) - _most(found))


def _most(found: pd.DataFrame) -> int:
    return max(ROWS, int((found["verdict"] == "effect").sum()))


def failed(said: Told) -> list[str]:
    """What failed, by cause, with where to look and what to type: a few lines each."""
    lines = []
    for one in said.failed:
        kind = one.status.replace("_", " ")
        many = f"{one.trials} trials {kind}, e.g. {one.example}" if one.trials > 1 else f"trial {one.example} {kind}"
        lines.append(f"\n{many}: {one.in_a_line}")
        if one.log:
            lines.append(f"  its log: {said.place}/{one.log}")
        lines.append(f"  alone, in a debugger: {debug_command(said.findings.results, said.place, one)}")
        if one.remedy:
            lines.append(f"  once that is mended: {one.remedy}")
    if said.unmade:
        lines.append(f"\nnot made, for want of runs that failed: {', '.join(said.unmade)}")
    return lines


def screen() -> Console:
    """Standard output, of a fixed width where it is no terminal and none is given."""
    redirected = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return streams.screen(width=PLAIN if redirected else None, highlight=False)


def show(said: Told, console: Console, standing: bool = True) -> None:
    """Print it: where the sweep stands, unless that was just seen; the conclusions, the report and what to do next."""

    def say(text: str, style: str = "") -> None:
        console.print(Text(text, style=style), soft_wrap=not console.is_terminal)

    by, now = said.holder, said.standing
    if standing:
        on = f" on {by.host} (pid {by.pid}), last sign of life {max(0.0, by.silent):.0f} s ago" if by else ""
        console.print(Text(now.study, style="bold").append(f": {said.state}{on}", style=""), soft_wrap=True)
        console.print(now.table(console.width) if console.is_terminal else Text(now.line()), soft_wrap=True)
    say(f"\n{said.lead}")
    near = unadjusted(said)
    marks = [" *" * (mixed(said) and not one) + " †" * close for one, close in zip(said.declared, near, strict=True)]
    table = conclusions(said.found, marks, console.width, said.findings.effect)
    if table is not None:
        console.print(table)
        if said.findings.metric.better == "lower":
            say(f"a lower {said.findings.metric.words} is better", style="dim")
        if mixed(said):
            say("* exploratory: no hypothesis asked for it beforehand", style="dim")
        if any(near[: _most(said.found)]):
            say("† the interval excludes 0 only unadjusted: adjusted ones are in the report", "dim")
        if left_out(said.found):
            say(f"and {left_out(said.found)} more in the report", style="dim")
    for one in said.findings.hypotheses.itertuples(index=False):
        say(f"hypothesis {one.hypothesis}: {one.verdict}{_numbers(one, said.findings.effect)}")
    if turning := int(said.found["note"].str.contains(TURNS, regex=False).sum()):
        which = f"{plural(turning, 'comparison')} {'turns' if turning == 1 else 'turn'}"
        say(f"{which} on runs that collapsed or diverged: inconclusive, see the report", style="yellow")
    if said.looks:
        say(said.looks)
    say(said.best)
    if said.time:
        say(" ".join(said.time))
    for line in failed(said):
        say(line, "red")
    if said.report:
        console.print(Text(f"\nreport: {said.report}"), soft_wrap=True)
    if said.next:
        console.print(Text(f"next: {said.next}"), soft_wrap=True)
