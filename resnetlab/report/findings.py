"""What the tables of a results folder say: computed once, and passed to sections, figures, terminal and exports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from resnetlab.analysis import failures
from resnetlab.analysis.confirm import effects_table, looks_taken, verdicts
from resnetlab.analysis.confirm.best_arm import Best, best_arms
from resnetlab.analysis.confirm.confirm_runs import ConfirmRuns
from resnetlab.analysis.confirm.earlier_plans import earlier_plans
from resnetlab.analysis.confirm.fairness import Finding, fairness
from resnetlab.analysis.evaluation import test_predictions, transfer_cost
from resnetlab.analysis.results import Results
from resnetlab.analysis.trial_outcomes import Counts
from resnetlab.reproduction import verdict_tables
from resnetlab.storage.schema import schema
from resnetlab.study.metrics import Metric


@dataclass(frozen=True)
class WrongImages:
    """A wish to see the most confidently wrong test images. count: how many; pictures: image numbers of the dataset of
    `Findings.shown_arm` -> (H, W, C) uint8 each."""

    count: int
    pictures: Callable[[Sequence[int]], Sequence[np.ndarray]]


@dataclass(frozen=True)
class Findings:
    """Everything that more than one reader of `results` needs, each computed when it is first asked for.

    Readers share these frames and arrays, so none may change them. Where the rows contradict the plan, BadData is
    raised by whatever is asked for first.
    """

    results: Results
    wrong_images: WrongImages | None = None

    @cached_property
    def metric(self) -> Metric:
        """What is confirmed: the plan's, or what a plan of the study would have."""
        plan = self.results.plan
        return self.results.study.confirmed if plan is None else plan.metric

    @cached_property
    def effect(self) -> Metric:
        """How its differences are shown."""
        return self.metric.effect

    @property
    def searched(self) -> Metric:
        """What the search went by."""
        return self.results.study.searched

    @cached_property
    def runs(self) -> ConfirmRuns:
        """The plan's confirm runs; ValueError where the folder has no plan."""
        results = self.results
        return looks_taken.runs_of(results.planned, results.confirm, results.predictions, results.image_groups)

    @cached_property
    def looks(self) -> looks_taken.Taken | None:
        """The looks that the plan has taken at its runs; None where it takes none."""
        plan = self.results.plan
        return None if plan is None or plan.looks is None else looks_taken.taken(self.runs)

    @cached_property
    def effects(self) -> pd.DataFrame:
        """The effects table, columns of `schema("effects")`; empty where there is no plan."""
        if self.results.plan is None:
            return schema("effects").empty_table().to_pandas()
        return effects_table.estimate(self.runs)

    @cached_property
    def earlier(self) -> pd.DataFrame:
        """The verdicts of plans that ended before the one in force, as `earlier_plans`."""
        return earlier_plans(self.results)

    @cached_property
    def performance(self) -> pd.DataFrame:
        """The metric of each arm, as `effects_table.performance`; ValueError where the folder has no plan."""
        return effects_table.performance(self.runs)

    @cached_property
    def best(self) -> Sequence[Best]:
        """Which arm of each task is best, if that can be told; ValueError where the folder has no plan."""
        return best_arms(self.runs)

    @cached_property
    def hypotheses(self) -> pd.DataFrame:
        """What became of each declared hypothesis, as `verdicts.claims`."""
        results = self.results
        runs = None if results.plan is None else self.runs
        return verdicts.claims(results.study, results.plan, results.confirm, runs)

    @cached_property
    def exploratory(self) -> Sequence[bool]:
        """For each row of `effects`, whether no hypothesis asked for it before the runs, however sure it is."""
        if self.results.plan is None or self.effects.empty:
            return [True] * len(self.effects)
        return list(verdicts.exploratory(self.effects, self.hypotheses))

    @cached_property
    def arms(self) -> Sequence[test_predictions.ArmRuns]:
        """The arms of the plan that have a run, in the plan's order; none where there is no plan."""
        return [] if self.results.plan is None else test_predictions.arms_of(self.runs, self.results.confirm)

    @property
    def named_arms(self) -> Sequence[test_predictions.ArmRuns]:
        """`arms` of a study that names its arms; none for a plan of factors."""
        plan = self.results.plan
        return self.arms if plan is not None and plan.design == "arms" else []

    @cached_property
    def shown_arm(self) -> test_predictions.ArmRuns | None:
        """The arm that stands for all where one is shown: the incumbent, or of named arms the best on the validation
        split."""
        named = sorted(self.named_arms, key=lambda arm: arm.rank(self.searched))
        return next(iter(named or [arm for arm in self.arms if arm.name == "incumbent"] or self.arms), None)

    def class_names(self, arm: test_predictions.ArmRuns) -> dict[int, str]:
        """The names of an arm's classes, by number."""
        rows = self.results.classes[self.results.classes["trial_id"].isin(arm.ids)]
        return dict(zip(rows["class"], rows["name"], strict=True))

    def arm_counts(self, arms: Sequence[test_predictions.ArmRuns]) -> str:
        """`9 confirm trials: 9 complete, 0 failed`: all runs of these arms, whatever became of them."""
        confirm = self.results.confirm
        return Counts.of(confirm[confirm["arm"].isin([arm.name for arm in arms])]).words("confirm")

    @cached_property
    def predictions(self) -> test_predictions.Predictions:
        """The kept top-1 predictions of the test split."""
        return test_predictions.Predictions.of(self.results.predictions)

    @cached_property
    def arm_costs(self) -> pd.DataFrame:
        """What each of `arms` reached and cost, as `transfer_cost.costs`."""
        return transfer_cost.costs(self.arms, self.results.trials, self.metric)

    @cached_property
    def fairness(self) -> Sequence[Finding]:
        """Whether the arms were given the same chance: the checks, unfair ones first."""
        results = self.results
        return fairness(results.study, results.plan, results.trials, None if results.plan is None else self.runs)

    @cached_property
    def failures(self) -> Sequence[failures.Failure]:
        """Trials that failed, by cause, the most frequent first."""
        return failures.failures(self.results)

    @cached_property
    def unmade(self) -> Sequence[str]:
        """The planned comparisons that have no estimate because runs failed that they need."""
        return failures.unmade(self.results, self.effects)

    @cached_property
    def published(self) -> verdict_tables.Reproduction | None:
        """The runs beside what a published text printed; None where the study reruns none."""
        return verdict_tables.reproduction_of(self.results)
