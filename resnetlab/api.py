"""The Python interface, also for notebooks: run a study, read its results. `import resnetlab` exports these names."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnetlab import console
from resnetlab.errors import Interrupted
from resnetlab.study import Study

if TYPE_CHECKING:
    import pandas as pd

    from resnetlab.report.findings import Findings
    from resnetlab.sweep.state_machine import Stage

__all__ = ["Results", "Study", "load", "run"]


def _resolve(content: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    from resnetlab.experiment.own import resolve

    return resolve(content, folder)


Study.resolve = staticmethod(_resolve)  # the room `study` is below `experiment` and may not import it


class Results:
    """The content of a results folder when it was loaded.

    Tables are pandas data frames with the columns of docs/tables.md; each is a copy, which you may change. Accuracies
    and their differences are fractions.

    Example:
        >>> results = resnetlab.load("results/default")
        >>> results.effects[["name", "estimate", "low", "high", "verdict"]]
    """

    def __init__(self, findings: Findings):
        self._findings = findings
        self._results = findings.results

    def __repr__(self) -> str:
        return f"<resnetlab.Results of {self.place}: {len(self._results.trials)} trials>"

    @property
    def study(self) -> Study:
        """The study that was run."""
        return self._results.study

    @property
    def place(self) -> str:
        """Path or URL of the folder."""
        return self._results.folder.place

    @property
    def trials(self) -> pd.DataFrame:
        """One row per trial: its phase, status, factor levels, seeds and final numbers.

        Example:
            >>> trials = resnetlab.load("results/default").trials
            >>> trials[trials["phase"] == "confirm"].groupby("arm")["test_accuracy"].agg(["mean", "std", "count"])
        """
        return self._results.trials.copy()

    @property
    def epochs(self) -> pd.DataFrame:
        """One row per trial and epoch: losses, accuracies and seconds.

        Example:
            >>> epochs = resnetlab.load("results/default").epochs
            >>> epochs.pivot(index="epoch", columns="trial_id", values="val_accuracy")
        """
        return self._results.epochs.copy()

    @property
    def effects(self) -> pd.DataFrame:
        """One row per planned comparison: estimate and interval on the scale of the runs' values (of accuracies:
        fractions), adjusted p-value, verdict.

        Empty if the folder has no plan yet. Raises BadData if the rows contradict the plan.

        Example:
            >>> effects = resnetlab.load("results/default").effects
            >>> effects.loc[effects["verdict"] == "effect", ["name", "estimate", "low", "high", "p_adjusted"]]
        """
        return self._findings.effects.copy()

    def summary(self) -> str:
        """The progress and the conclusions, as `resnetlab status` prints them."""
        from resnetlab.commands import short
        from resnetlab.report import terminal

        text = io.StringIO()
        screen = console.screen(text, width=terminal.PLAIN, highlight=False, force_terminal=False)
        terminal.show(terminal.told(self._findings, short(self.place)), screen, True)
        return text.getvalue()

    def report(self) -> Path | str:
        """Write report.html, the figures and effects.parquet into the folder, and return the path of report.html.

        Needs neither torch nor Ray. Raises BadRequest if the folder cannot be written.

        Example:
            >>> page = resnetlab.load("results/default").report()
            >>> print(page)
        """
        from resnetlab.report.build import build

        return build(self._findings)


def load(place: str | os.PathLike[str]) -> Results:
    """Read the results folder of a running or finished sweep. Writes nothing; needs neither torch nor Ray.

    Args:
        place: path or URL of the folder, such as `results/default`.

    Raises:
        BadRequest: there is no results folder.
        FolderRefused: a file in it is damaged.

    Example:
        >>> trials = resnetlab.load("results/default").trials
        >>> trials.groupby("phase")["val_accuracy"].describe()
    """
    from resnetlab.analysis.results import Results as Tables
    from resnetlab.report.findings import Findings

    return Results(Findings(Tables.open(os.fspath(place))))


def run(
    study: Study | str | os.PathLike[str] | Mapping[str, Any],
    *,
    storage: str | os.PathLike[str] = "results",
    address: str | None = None,
    nodes: int = 1,
    phase: Stage = "all",
    weights: str | os.PathLike[str] | None = None,
    retry_failed: bool = False,
    accept_changed_code: bool = False,
    slots: int | None = None,
    extend: bool = False,
) -> Results:
    """Run or continue a study, write its report, print its conclusions, and return the results.

    Shows its progress meanwhile; in a notebook as plain lines. Stopping the cell, or Ctrl-C, ends the sweep cleanly:
    its results so far are kept, and the same call continues it.

    Args:
        study: a study, or what `Study.load` reads one from.
        storage: folder or URL that holds the results folder, which has the study's name.
        address: Ray cluster to join, `auto` or `HOST:PORT`; None starts Ray on this machine, for this run alone.
        nodes: wait up to two minutes for this many nodes of the cluster; more can join later.
        phase: stop after `pilot`, `explore` or `plan`; `confirm` runs that phase alone.
        weights: file to use for the torchvision weights that the study names.
        retry_failed: rerun trials that failed or ran out of memory.
        accept_changed_code: continue a sweep although the study's own code has changed; the report says so.
        slots: the most trials that run at once; None for as many as the machine or cluster has room for.
        extend: go on from the results of a study of this name that asked for less: fewer explore trials, levels,
            factors, epochs or seeds.

    Raises:
        BadRequest, BadData, FolderRefused: nothing was run; the message names the cause.
        TrialsFailed: no trial has a result, or a planned comparison could not be made; the report is written.
        Interrupted: the sweep was stopped; the same call continues it.
        ClusterLost: as Interrupted.

    Example:
        >>> study = resnetlab.Study.load("default", search={"trials": 6})
        >>> results = resnetlab.run(study, storage="results")
        >>> results.effects
    """
    from resnetlab.cli.run_and_report import run as run_and_report
    from resnetlab.driver.options import Options

    chosen = study if isinstance(study, Study) else Study.load(study)
    options = Options(
        storage=os.fspath(storage),
        address=address,
        nodes=nodes,
        slots=slots,
        stage=phase,
        weights=None if weights is None else Path(weights),
        retry_failed=retry_failed,
        accept_changed_code=accept_changed_code,
        extend=extend,
        ends_process=False,
    )
    try:
        return Results(run_and_report(chosen, options))
    except KeyboardInterrupt:  # before or after the sweep itself, which ends in order
        raise Interrupted("interrupted; run the same study again to continue it") from None
