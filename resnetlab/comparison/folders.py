"""Two or more folders laid side by side: settings that differ, and each comparison's effects, differences and mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from resnetlab.analysis.confirm.contrasts import CellMeans, Estimates, contrast, holm, verdicts
from resnetlab.analysis.confirm.effects import FAMILIES, sides_of
from resnetlab.analysis.confirm.estimands import ARMS, INTERACTION, SWAP, estimands
from resnetlab.analysis.intervals import welch_df
from resnetlab.analysis.results import Results
from resnetlab.comparison.pooling import Pooled, pooled
from resnetlab.errors import BadRequest
from resnetlab.planning.plan import Plan
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import TIMES, asked, level
from resnetlab.report.sections.provenance import distinct, revisions
from resnetlab.study.metrics import Metric
from resnetlab.wording import level_text

RUN = ("data", "seed", "split_seed", "epochs")  # of a config: what it runs on, and how long
DIFFER, AGREE, UNDECIDED, IDENTICAL, NONE = "differ", "agree", "undecided", "identical", "–"


@dataclass(frozen=True)
class Question:
    """What is compared, whichever way round: factors with their two levels, and what it is an average over."""

    estimand: str
    pairs: frozenset[tuple[str, frozenset[str]]]


@dataclass(frozen=True, kw_only=True)
class Estimated:
    """What one study says of one comparison, with the columns of the effects table."""

    estimate: float
    low: float
    high: float
    standard_error: float
    df: float
    n: int
    n_reference: int
    verdict: str


@dataclass(frozen=True, kw_only=True)
class Answer(Estimated):
    """One study's effect, turned so that level and reference are those of the first study that has it.

    difference, its ends and judged: against the first study; NaN and `–` for that one itself and where there is nothing
    to take it from. paired: by the seeds that both ran.
    """

    study: int
    difference: float = np.nan
    difference_low: float = np.nan
    difference_high: float = np.nan
    judged: str = NONE
    paired: bool = False


@dataclass(frozen=True)
class Compared:
    """One comparison in all studies that made it. pooled: None where that cannot be, for the reason in `why`."""

    name: str
    question: Question
    answers: Sequence[Answer]
    pooled: Pooled | None
    why: str


@dataclass(frozen=True)
class Comparison:
    """labels: what the folders are called here. All effects are on the scale of the tables (fractions of accuracy)."""

    labels: Sequence[str]
    findings: Sequence[Findings]

    @classmethod
    def of(cls, places: Sequence[str]) -> Comparison:
        """Open folders by path or URL. BadRequest where they are fewer than two, one of them twice, one has no plan, or
        they measure different things."""
        if len(places) < 2:
            raise BadRequest(f"RESULTS: need two folders or more, got {len(places)}")
        found = [Findings(Results.open(place)) for place in places]
        urls = [one.results.folder.url for one in found]
        if twice := next((url for url in urls if urls.count(url) > 1), None):
            raise BadRequest(f"RESULTS: {twice} is given twice (allowed: each folder once)")
        for one in found:
            if one.results.plan is None:
                raise BadRequest(f"{one.results.folder.url}: has no plan, so no effect to compare")
        first = found[0].metric
        for one in found[1:]:
            if (one.metric.name, one.metric.unit, one.metric.better) != (first.name, first.unit, first.better):
                raise BadRequest(
                    f"{one.results.folder.url}: measures {one.metric.words}{_unit(one.metric)}, {urls[0]} "
                    f"{first.words}{_unit(first)} (allowed: studies of one metric)"
                )
        return cls(labels(urls), found)

    @property
    def metric(self) -> Metric:
        return self.findings[0].metric

    @property
    def plans(self) -> list[Plan]:
        return [one.results.planned for one in self.findings]

    @property
    def alpha(self) -> float:
        """The strictest of the studies'."""
        return min(plan.alpha for plan in self.plans)

    @property
    def delta(self) -> float:
        """The smallest of the smallest effects of interest, as people read them."""
        return min(plan.delta for plan in self.plans)

    @cached_property
    def settings(self) -> list[tuple[str, list[str]]]:
        """What is not the same in all: a setting, a version, a machine, a date; with its value in each folder."""
        columns = [_facts(one) for one in self.findings]
        names = list(dict.fromkeys(name for column in columns for name in column))
        rows = [(name, [column.get(name, NONE) for column in columns]) for name in names]
        return [(name, values) for name, values in rows if len(set(values)) > 1]

    @cached_property
    def shared(self) -> list[tuple[int, int]]:
        """Pairs of studies that ran the same seeds, so that they are no independent measurements."""
        seeds = [set(one.results.confirm["seed"].dropna()) for one in self.findings]
        return [(i, j) for j in range(len(seeds)) for i in range(j) if seeds[i] & seeds[j]]

    @cached_property
    def compared(self) -> list[Compared]:
        """Every comparison that two studies or more can estimate, in the order of the first study that has it."""
        found: dict[Question, list[tuple[int, Row, float]]] = {}
        turned: dict[Question, Row] = {}
        for study, one in enumerate(self.findings):
            for row in _estimable(one):
                question = _question(row)
                first = turned.setdefault(question, row)
                found.setdefault(question, []).append((study, row, _sign(row, first)))
        questions = [question for question, held in found.items() if len({study for study, *_ in held}) > 1]
        answers = self._judged(questions, [[self._answer(*one) for one in found[question]] for question in questions])
        return [
            Compared(asked(turned[question]), question, answered, *self._pooled(question, answered))
            for question, answered in zip(questions, answers, strict=True)
        ]

    @property
    def alone(self) -> list[str]:
        """Comparisons that only one study made, with its label."""
        counts: dict[Question, list[str]] = {}
        for label, one in zip(self.labels, self.findings, strict=True):
            for row in _estimable(one):
                counts.setdefault(_question(row), []).append(f"{asked(row)} ({label})")
        return [held[0] for held in counts.values() if len(held) == 1]

    def _answer(self, study: int, row: Row, sign: float) -> Answer:
        low, high = sorted((sign * row.low, sign * row.high))
        n, reference = (row.n, row.n_reference) if sign > 0 else (row.n_reference, row.n)
        return Answer(
            study=study,
            estimate=sign * row.estimate,
            low=low,
            high=high,
            standard_error=row.standard_error,
            df=row.df,
            n=int(n),
            n_reference=int(reference),
            verdict=row.verdict,
        )

    def _judged(self, question: Sequence[Question], rows: Sequence[Sequence[Answer]]) -> list[list[Answer]]:
        """With each study's differences from the first that has the comparison, adjusted over all of that study's."""
        found = [list(row) for row in rows]
        for study in range(1, len(self.findings)):
            places = [(i, k) for i, row in enumerate(found) for k, one in enumerate(row) if k and one.study == study]
            made = [self._difference(question[i], found[i][0], found[i][k]) for i, k in places]
            if not made:
                continue
            all_of = Estimates(*(np.array([one[part] for one, _ in made], dtype=float) for part in range(3)))
            low, high = all_of.interval()
            judged = verdicts(all_of, holm(all_of.p), self.alpha, self.delta / self.metric.scale)
            for position, (i, k) in enumerate(places):
                (difference, error, _), paired = made[position]
                same = paired and difference == 0 and np.isnan(error)
                found[i][k] = replace(
                    found[i][k],
                    difference=difference,
                    difference_low=float(low[position]),
                    difference_high=float(high[position]),
                    judged=IDENTICAL if same else WORDS[str(judged[position])],
                    paired=paired,
                )
        return found

    def _difference(self, question: Question, first: Answer, other: Answer) -> tuple[tuple[float, float, float], bool]:
        """Estimate, standard error and degrees of freedom of `other` less `first`; True: of pairs of runs."""
        by_pairs = self._pairs(first.study, other.study).get(question)
        if by_pairs is not None:
            return by_pairs, True
        parts = np.array([first.standard_error**2, other.standard_error**2])
        df = float(welch_df(parts, np.array([first.df, other.df])))
        return (other.estimate - first.estimate, float(np.sqrt(parts.sum())), df), False

    def _pairs(self, one: int, other: int) -> Mapping[Question, tuple[float, float, float]]:
        """The differences of two studies whose arms are the same and ran on the same seeds: the same questions, asked
        of the differences of runs. Empty where they are not."""
        if (one, other) not in self._paired:
            self._paired[one, other] = _by_pairs(self.findings[one], self.findings[other])
        return self._paired[one, other]

    @cached_property
    def _paired(self) -> dict[tuple[int, int], Mapping[Question, tuple[float, float, float]]]:
        return {}

    def _pooled(self, question: Question, answers: Sequence[Answer]) -> tuple[Pooled | None, str]:
        if why := self._unlike(question, [one.study for one in answers]):
            return None, why
        found = pooled([one.estimate for one in answers], [one.standard_error for one in answers])
        return (found, "") if found.studies > 1 else (None, "fewer than two studies have an interval")

    def _unlike(self, question: Question, studies: Sequence[int]) -> str:
        """Why these studies are no independent measurements of one thing; empty where they are."""
        for i, j in self.shared:
            if i in studies and j in studies:
                return f"{self.labels[i]} and {self.labels[j]} ran the same seeds: one measurement, not two"
        results = [self.findings[study].results for study in studies]
        budgets = sorted({one.study.search.epochs for one in results})
        if len(budgets) > 1:
            return f"their budgets differ ({' and '.join(map(str, budgets))} epochs)"
        if others := _differing([_fixed(one) for one in results]):
            return f"their baselines differ ({', '.join(others)})"
        if question.estimand == ARMS:
            names = [name for _, levels in question.pairs for name in levels]
            return "" if len({repr([one.study.arms.get(name) for name in names]) for one in results}) == 1 else (
                "their arms of these names are not the same"
            )  # fmt: skip
        own = {factor for factor, _ in question.pairs}
        plans = [one.planned for one in results]
        if question.estimand == SWAP:
            held = [{name: plan.incumbent[name] for name in plan.compared if name not in own} for plan in plans]
        else:
            held = [
                {
                    name: sorted(map(level_text, [plan.incumbent[name], *levels]))
                    for name, levels in plan.compared.items()
                }
                for plan in plans
            ]
        differing = _differing(held)
        what = "incumbents" if question.estimand == SWAP else "levels of the other factors"
        return f"their {what} differ ({', '.join(differing)})" if differing else ""


def _fixed(results: Results) -> dict[str, Any]:
    """The settings of the baseline that no factor varies, without its data; and the study's own code, by its hash."""
    config = results.study.baseline_config(seed=0).model_dump(mode="json")
    varied = {factor.name for factor in results.study.space.factors}
    fixed = {name: value for name, value in config.items() if name not in {*RUN, *varied}}
    return fixed | {"own code": results.study.own.source}


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names whose values are not the same in all."""
    names = set().union(*settings)
    return sorted(name for name in names if len({repr(one.get(name)) for one in settings}) > 1)


WORDS = {"effect": DIFFER, "equivalent": AGREE, "inconclusive": UNDECIDED, "not estimable": NONE}


def _by_pairs(one: Findings, other: Findings) -> Mapping[Question, tuple[float, float, float]]:
    first, second = one.runs, other.runs
    arms = [[(arm.name, repr(arm.values)) for arm in runs.plan.arms] for runs in (first, second)]
    if arms[0] != arms[1] or first.plan.design != second.plan.design or first.values.shape != second.values.shape:
        return {}
    seeds = [
        {(row.design_row, row.seed_block): row.seed for row in found.results.confirm.itertuples(index=False)}
        for found in (one, other)
    ]
    both = seeds[0].keys() & seeds[1].keys()
    if not both or any(seeds[0][place] != seeds[1][place] for place in both):
        return {}
    asked_of = estimands(first.plan)
    cells = CellMeans.of(second.values - first.values)
    found = contrast(cells, asked_of.weights(cells.n > 0), asked_of.crossed)
    numbers = zip(found.estimate, found.standard_error, found.df, strict=True)
    return {_question(item): tuple(map(float, row)) for item, row in zip(asked_of.items, numbers, strict=True)}  # type: ignore[misc]


@dataclass(frozen=True, kw_only=True)
class Row(Estimated):
    """A planned comparison of one study, by its names in the effects table."""

    factor: str
    level: str
    reference: str
    estimand: str
    name: str


def _estimable(findings: Findings) -> list[Row]:
    """The comparisons that the study has an estimate for, as its effects table has them; main effects also where an
    interaction was found, which puts simple effects in their place there. Those were chosen by their data, so they are
    not compared."""
    runs = findings.runs
    wanted = estimands(runs.plan)
    cells = CellMeans.of(runs.values)
    found = contrast(cells, wanted.weights(cells.n > 0), wanted.crossed)
    low, high = found.interval()
    held = {row.name: row for row in findings.effects.itertuples(index=False)}
    rows = []
    for i, (item, sides) in enumerate(zip(wanted.items, sides_of(runs.plan, wanted), strict=True)):
        if item.kind not in FAMILIES:
            continue
        parts = (found.estimate, low, high, found.standard_error, found.df)
        numbers: dict[str, Any] = {name: float(part[i]) for name, part in zip(NUMBERS, parts, strict=True)}
        n, reference = (int(cells.n[side].sum()) for side in sides)
        verdict = "depends on another factor"
        if (row := held.get(item.name)) is not None:
            numbers = {name: float(getattr(row, name)) for name in NUMBERS}
            n, reference, verdict = int(row.n), int(row.n_reference), str(row.verdict)
        if np.isfinite(numbers["estimate"]):
            names = {name: getattr(item, name) for name in ("factor", "level", "reference", "estimand", "name")}
            rows.append(Row(**numbers, n=n, n_reference=reference, verdict=verdict, **names))
    return rows


NUMBERS = ("estimate", "low", "high", "standard_error", "df")


def _parts(row: Any) -> list[tuple[str, str, str]]:
    """Factor, level and reference of each factor of a comparison."""
    parts = [str(row.factor).split(f" {TIMES} "), str(row.level).split(", "), str(row.reference).split(", ")]
    if row.estimand != INTERACTION or len(set(map(len, parts))) > 1:  # a level may have a comma in it
        return [(str(row.factor), str(row.level), str(row.reference))]
    return list(zip(*parts, strict=True))


def _question(row: Any) -> Question:
    return Question(row.estimand, frozenset((factor, frozenset((a, b))) for factor, a, b in _parts(row)))


def _sign(row: Any, first: Any) -> float:
    """-1 where a row of the effects table has it the other way round than `first`; a factor turned in an interaction
    turns its sign, two turn it back."""
    levels = {factor: level for factor, level, _ in _parts(first)}
    return float(np.prod([1.0 if levels[factor] == level else -1.0 for factor, level, _ in _parts(row)]))


def labels(places: Sequence[str]) -> list[str]:
    """What folders are called: the ends of their paths, as long as is needed to tell them apart."""
    parts = [place.rstrip("/").split("/") for place in places]
    for length in range(1, max(map(len, parts)) + 1):
        found = ["/".join(part[-length:]) for part in parts]
        if len(set(found)) == len(found):
            return found
    return list(places)


def _facts(findings: Findings) -> dict[str, str]:
    """Settings, levels of the incumbent, data, versions, machines and dates, as text by name."""
    results = findings.results
    study, plan, sweep = results.study, results.planned, results.sweep
    identity = {name: value for name, value in study.identity().items() if name not in ("own", "code")}
    known = _flat(identity | {"confirm": study.confirm.model_dump(mode="json"), "hypotheses": list(study.hypotheses)})
    known |= {f"incumbent: {name}": level(value) for name, value in plan.incumbent.items()}
    versions = sweep.get("versions")
    known |= {
        f"version of {name}": str(version) for name, version in (versions if isinstance(versions, dict) else {}).items()
    }
    more = {
        "data": distinct(results.trials, "data_hash"),
        "code": revisions(results.trials),
        "device": distinct(results.trials, "device"),
        "host": distinct(results.trials, "host"),
        "platform": str(sweep.get("platform") or ""),
        "begun": str(sweep.get("started") or "")[:10],
        "plan": plan.plan_hash,
    }
    return known | {name: value for name, value in more.items() if value}


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        elif value is not None:
            listed = ", ".join(map(str, value)) if isinstance(value, list | tuple) else level(value)
            found[f"{prefix}{key}"] = listed
    return found


def _unit(metric: Metric) -> str:
    return f" ({metric.unit})" if metric.unit else ""
