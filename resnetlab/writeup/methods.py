"""The methods of a study in sentences, from its plan and its record: what was run, compared and cited."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from resnetlab.analysis.trial_outcomes import Counts
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import level, listed, settings
from resnetlab.study import Study, catalog
from resnetlab.study.sections.search import USUAL_RULE
from resnetlab.study.space import Branch
from resnetlab.wording import plural
from resnetlab.writeup.rendering import Cite, Text
from resnetlab.writeup.tables import turning

SAMPLERS = {
    "tpe": ("the tree-structured Parzen estimator", "bergstra2011algorithms"),
    "random": ("random search", "bergstra2012random"),
    "grid": ("a full grid", ""),
    "gp": ("a Gaussian process", ""),
    "cma-es": ("the covariance matrix adaptation evolution strategy", ""),
    "quasi-random": ("a scrambled Sobol sequence", "sobol1967distribution"),
}
DESIGNS = {
    "one-factor": "one factor at a time around the incumbent",
    "factorial": "a full factorial around the incumbent",
    "fractional": "a two-level fractional factorial around the incumbent",
    "d-optimal": "a D-optimal design around the incumbent",
    "arms": "the arms that the study names",
}
TOOLS = {  # of the recorded versions: as a text has it, and what it asks to cite
    "python": ("Python", ""),
    "torch": ("PyTorch", "paszke2019pytorch"),
    "torchvision": ("torchvision", ""),
    "ray": ("Ray Tune", "liaw2018tune"),
    "optuna": ("Optuna", "akiba2019optuna"),
}
DATASETS = {"cifar10": "krizhevsky2009learning", "cifar100": "krizhevsky2009learning"}


def paragraphs(findings: Findings) -> list[Text]:
    """The software and data, the search, the plan, and how it was analysed; of a folder with a plan."""
    made = [_software(findings), _search(findings), _plan(findings), _analysis(findings)]
    return [text for text in made if text]


def _software(findings: Findings) -> Text:
    results = findings.results
    study, versions = results.study, results.sweep.get("versions")
    versions = versions if isinstance(versions, dict) else {}
    text: list[str | Cite] = [f"The study {study.name} was run with resnetlab {versions.get('resnetlab', '')}".rstrip()]
    text.append(Cite(("resnetlab",)))
    tools = [(*TOOLS[name], str(versions[name])) for name in TOOLS if name in versions]
    for i, (name, key, version) in enumerate(tools):
        text.append(f"{', ' if i else ' ('}{name} {version}")
        text += [Cite((key,))] if key else []
    text.append("). " if tools else ". ")
    data = results.sweep.get("data") or {}
    if study.dataset is None:
        return [*text, f"Each run is one of the study's own task, {study.experiment}."]
    label = f", labelled by {study.dataset.label}" if study.dataset.label else ""
    text.append(f"The data are {study.dataset.name}{label}")
    text += [Cite((DATASETS[study.dataset.name],))] if study.dataset.name in DATASETS else []
    splits = {"train": "training", "val": "validation", "test": "test"}
    sizes = [f"{data[split]} {words}" for split, words in splits.items() if isinstance(data.get(split), int)]
    shape = " × ".join(map(str, data.get("shape") or ()))
    classes = data.get("classes")
    number = classes if isinstance(classes, int) else len(classes or ())
    parts = [f"{listed(sizes)} images" if sizes else "", f"of {shape} values" if shape else ""]
    parts.append(f"in {number} classes" if number else "")
    said = " ".join(filter(None, parts))
    return [*text, f": {said}. " if said else ". ", *_network(study)]


def _network(study: Study) -> Text:
    fixed = {name: value for name, value in study.baseline.items() if name not in study.space.names}
    text: list[str | Cite] = ["The networks are residual networks"]
    if fixed.get("model", "resnet") == "resnet" and not study.arms:
        text.append(Cite(("he2016deep",)))
    else:
        text = ["The network is one of the settings"]
    return [*text, f"; set for all runs: {settings(fixed)}." if fixed else "."]


def _search(findings: Findings) -> Text:
    results = findings.results
    study, plan = results.study, results.planned
    if study.arms:
        return []
    search = study.search
    sampler, key = SAMPLERS.get(search.sampler, (f"the sampler {search.sampler}", ""))
    space = "; ".join(f"{factor.name} ({' or '.join(map(_branch, factor.branches))})" for factor in study.space.factors)
    text: list[str | Cite] = [f"Candidates were proposed by {sampler}"]
    text += [Cite((key,))] if key else []
    text.append(f" over {space}: {plural(len(results.explore), 'trial')} of at most {plural(search.epochs, 'epoch')}")
    if search.stopping and search.rule != USUAL_RULE:
        rule = catalog.stopping_rule(search.rule)
        text.append(f", stopped early ({rule.words(search.__dict__) if rule else search.rule})")
    elif search.stopping:
        grace = plural(search.grace_period, "epoch")
        text += [", stopped early by ASHA", Cite(("li2020system",))]
        text.append(f" (grace period {grace}, reduction factor {search.reduction_factor})")
    searched = findings.searched
    text.append(
        f". This search saw no test data and is not evidence for any comparison: it chose the incumbent, the trial "
        f"with the {'highest' if searched.sign > 0 else 'lowest'} {searched.words} at the full budget "
        f"({settings(plan.incumbent)})."
    )
    return text


def _branch(branch: Branch) -> str:
    if branch.levels is not None:
        return ", ".join(map(level, branch.levels))
    where = f" where {' and '.join(branch.when)} allows" if branch.when else ""
    return f"{level(branch.low)} to {level(branch.high)}{', on a log scale' if branch.log else ''}{where}"


def _plan(findings: Findings) -> Text:
    results = findings.results
    plan, study = results.planned, results.study
    of = f"{DESIGNS.get(plan.design, plan.design)}"
    key = "box2005statistics" if plan.design in ("factorial", "fractional") else ""
    text: list[str | Cite] = [
        f"Before any run that a comparison rests on, a plan was written and hashed ({plan.plan_hash}): {of}"
    ]
    text += [Cite((key,))] if key else []
    last = int(plan.asked.get("last_epochs", 1))
    read = "was read once, at the last epoch" if last == 1 else f"was read in each of these {last} and nowhere else"
    text.append(
        f", {plural(len(plan.arms), 'arm')} on the same {plural(plan.seeds, 'fresh seed')} each, at the full budget of "
        f"{plural(study.search.epochs, 'epoch')} and without early stopping, compared on {plan.metric.words}, which "
        f"{read}. "
    )
    lines = plan.asked.get("hypotheses") or []
    said = "; ".join(map(str, lines))
    text.append(f"Declared in it beforehand: {said}. " if lines else "It declares no hypothesis. ")
    moved = sorted({name for arm in plan.arms for name in arm.companions})
    text.append(f"Tuned settings that had to change with the levels went along: {listed(moved)}. " if moved else "")
    counts = Counts.of(results.confirm)
    text.append(
        f"Of the planned {plural(len(plan.arms) * plan.seeds, 'run')} these are there: {counts.words('confirm')}."
    )
    return [part for part in text if part]


def _analysis(findings: Findings) -> Text:
    plan = findings.results.planned
    text: list[str | Cite] = [
        f"Effects are differences of arm means ({_estimators(findings) or 'none could be estimated'})",
        Cite(("welch1938significance", "satterthwaite1946approximate")),
        ", with 95% confidence intervals. An effect is claimed where the p value, adjusted within its family of "
        "comparisons",
        Cite(("holm1979simple",)),
        f", is at most {plan.alpha:g}; a difference is called equivalent where two one-sided 5% tests",
        Cite(("schuirmann1987comparison",)),
        f" place it within ±{plan.delta_text}; all else is inconclusive. ",
    ]
    if plan.metric.fraction:
        text.append("Differences are in percentage points. ")
    turns = turning(findings)
    if turns:
        text.append(
            f"{plural(turns, 'comparison')} whose answer depends on runs that collapsed or diverged "
            f"{'is' if turns == 1 else 'are'} inconclusive. "
        )
    text.append("Runs that collapsed to guessing count on both sides of a comparison, and none was left out by hand.")
    return text


def _estimators(findings: Findings) -> str:
    """As the effects table has them, those that differ only in their family said once."""
    families: dict[str, list[str]] = {}
    for method in sorted({str(method) for method in findings.effects["method"].dropna()} - {"none"}):
        how, _, family = method.partition(", Holm over ")
        families.setdefault(how, []).append(family)
    return "; ".join(
        f"{how}; Holm over {listed(found)}, each by itself" if len(found) > 1 else f"{how}; Holm over {found[0]}"
        for how, found in families.items()
    )


@cache
def _entries() -> dict[str, str]:
    """Each entry of references.bib by its key."""
    text = (files("resnetlab.writeup") / "references.bib").read_text(encoding="utf-8")
    found = [entry.strip() for entry in re.split(r"\n(?=@)", text)]
    return {entry.partition("{")[2].partition(",")[0]: entry for entry in found}


def bibliography(findings: Findings, keys: Sequence[str]) -> str:
    """The BibTeX entries of `keys`, with the version and the year of this study."""
    versions = findings.results.sweep.get("versions")
    version = str(versions.get("resnetlab", "")) if isinstance(versions, dict) else ""
    year = re.match(r"\d{4}", str(findings.results.sweep.get("started") or ""))
    text = "\n\n".join(_entries()[key] for key in sorted(keys)) + "\n"
    text = text.replace("Version VERSION", f"Version {re.sub(r'[^0-9A-Za-z.+-]', '', version) or 'unknown'}")
    return text.replace("{YEAR}", f"{{{year[0]}}}") if year else text.replace(",\n  year = {YEAR}", "")
