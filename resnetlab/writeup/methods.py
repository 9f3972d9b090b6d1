"""The methods of a study in sentences, from its plan and its record: what was run, compared and cited."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from resnetlab.analysis.trial_outcomes import Counts
from resnetlab.planning.designs import contrast_name
from resnetlab.report.answer import earlier_in_words
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import level, listed, settings
from resnetlab.study import Study, catalog
from resnetlab.study.sections.search import USUAL_RULE
from resnetlab.study.space import Branch
from resnetlab.wording import plural
from resnetlab.writeup import error_bars
from resnetlab.writeup.rendering import Cite, Text
from resnetlab.writeup.tables import turning

SAMPLERS = {
    "tpe": ("the tree-structured Parzen estimator", "bergstra2011algorithms"),
    "random": ("random search", "bergstra2012random"),
    "grid": ("a full grid", ""),
    "gp": ("a Gaussian process", ""),
    "cma-es": ("the covariance matrix adaptation evolution strategy", ""),
    "linear": ("Thompson sampling from a Bayesian linear model of the settings' effects", ""),
    "quasi-random": ("a scrambled Sobol sequence", "sobol1967distribution"),
}
DESIGNS = {
    "one-factor": "one factor at a time",
    "factorial": "a full factorial",
    "fractional": "a two-level fractional factorial",
    "d-optimal": "a D-optimal design",
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
    """The software and data, the search, the plan, its looks, and how it was analysed; of a folder with a plan."""
    made = [_software(findings), _search(findings), _plan(findings), _looks(findings), _analysis(findings)]
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
    if plan.splits == "fixed":
        return [*text, f". This search saw no test data and is not evidence for any comparison: {_chosen(findings)}"]
    return [
        *text,
        f". This search is not evidence for any comparison: {_chosen(findings)} For the confirm runs the split was "
        "drawn again with each block of seeds, so that test images of a block may have been training or validation "
        "images of the search.",
    ]


def _chosen(findings: Findings) -> str:
    """What the search chose of what is compared."""
    plan, searched = findings.results.planned, findings.searched
    if plan.around == "baseline":
        moved = listed(plan.companions)
        but = f", but for tuned settings that go with some of them ({moved})" if moved else ""
        return (
            f"it chose no level that is compared{but}, as the design is laid around the baseline of the study file "
            f"({settings(plan.incumbent)})."
        )
    return (
        f"it chose the incumbent, the trial with the {'highest' if searched.sign > 0 else 'lowest'} {searched.words} "
        f"at the full budget ({settings(plan.incumbent)})."
    )


def _branch(branch: Branch) -> str:
    if branch.levels is not None:
        return ", ".join(map(level, branch.levels))
    where = f" where {' and '.join(branch.when)} allows" if branch.when else ""
    return f"{level(branch.low)} to {level(branch.high)}{', on a log scale' if branch.log else ''}{where}"


def _plan(findings: Findings) -> Text:
    results = findings.results
    plan, study = results.planned, results.study
    centre = {"incumbent": "the incumbent", "baseline": "the baseline of the study file"}[plan.around]
    around = "" if plan.design == "arms" else f" around {centre}"
    of = f"{DESIGNS.get(plan.design, plan.design)}{around}"
    key = "box2005statistics" if plan.design in ("factorial", "fractional") else ""
    text: list[str | Cite] = [
        f"Before any run that a comparison rests on, a plan was written and hashed ({plan.plan_hash}): {of}"
    ]
    text += [Cite((key,))] if key else []
    last = int(plan.asked.get("last_epochs", 1))
    read = "was read once, at the last epoch" if last == 1 else f"was read in each of these {last} and nowhere else"
    text.append(
        f", {plural(len(plan.arms), 'arm')} on the same {'at most ' if plan.looks else ''}"
        f"{plural(plan.seeds, 'fresh seed')} each, at the full budget of "
        f"{plural(study.search.epochs, 'epoch')} and without early stopping, compared on {plan.metric.words}, which "
        f"{read}. "
    )
    lines = plan.asked.get("hypotheses") or []
    said = "; ".join(map(str, lines))
    text.append(f"Declared in it beforehand: {said}. " if lines else "It declares no hypothesis. ")
    moved = listed(plan.companions)
    text.append(f"Tuned settings that had to change with the levels went along: {moved}. " if moved else "")
    counts = Counts.of(results.confirm)
    runs = plural(len(plan.arms) * plan.seeds, "run")
    asked = f"Of the planned {runs}"
    if findings.looks is not None:
        asked = f"Of at most {runs} the looks have asked for {findings.looks.needed.sum()}, of which"
    text.append(f"{asked} these are there: {counts.words('confirm')}.")
    return [part for part in text if part]


def _looks(findings: Findings) -> Text:
    """When the runs were looked at, what each look could spend and decide, and what came of it."""
    taken, plan = findings.looks, findings.results.planned
    looks = plan.looks
    if taken is None or looks is None:
        return []
    primaries = listed([contrast_name(*found) for found in looks.primaries])
    stops = "An arm stops once its comparisons are settled, and all stop once all primary comparisons are, "
    if looks.stops == "all":
        stops = "All arms stop together once all primary comparisons are settled, "
    text: list[str | Cite] = [
        f"As the plan had fixed, its runs were looked at after each whole block of seeds from the second on, of "
        f"{plural(plan.seeds, 'block')} at most. Over the looks the error rates are spent by a function of the type of "
        "O'Brien and Fleming",
        Cite(("lan1983discrete",)),
        ": once the share t of the blocks has run, at most 4 [1 − Φ(z(1 − α/4) / √t)] of a two-sided α. Each p value "
        "is turned into the least α at which its look would reject, and the least of these over the looks so far is "
        "adjusted by Holm's method across the comparisons of a family",
        Cite(("maurer2013multiple",)),
        f". Primary comparisons: {primaries}. A comparison was given up as not resolvable, and is inconclusive, where "
        f"from the look after block {looks.futility_from} on the conditional power of both an effect and equivalence "
        f"was below {looks.futility:.0%}; this bound for futility is non-binding, so no error rate rests on it. "
        f"{stops}or after the last block. ",
    ]
    if looks.reestimate:
        held = f"; they became {taken.course.blocks[0]}" if taken.looks else ""
        text.append(
            f"After the second block the number of blocks was set again to what finds {plan.delta_text} with 80% "
            f"power at the spread between seeds so far, pooled over the arms and blind to their means{held}; as this "
            f"spread enters later errors too, {looks.share:.0%} of each error rate is spent. "
        )
    line = taken.line()
    return [
        *text,
        f"{line[0].upper()}{line[1:]}. The repeated intervals given beside the effects hold together over all looks",
        Cite(("jennison1989interim",)),
        "; the others are the ordinary ones at stopping.",
    ]


def _analysis(findings: Findings) -> Text:
    plan = findings.results.planned
    kinds = error_bars.kinds(error_bars.of_effects(findings), findings)
    text: list[str | Cite] = [
        f"Effects are differences of arm means ({_estimators(findings) or 'none could be estimated'})",
        Cite(("welch1938significance", "satterthwaite1946approximate")),
        f", with 95% confidence intervals {error_bars.on(kinds)}. An effect is claimed where the p value, "
        "adjusted within its family of comparisons",
        Cite(("holm1979simple",)),
        f", is at most {plan.alpha:g}; a difference is called equivalent where two one-sided "
        f"{'5% ' if plan.looks is None else ''}tests",
        Cite(("schuirmann1987comparison",)),
        "" if plan.looks is None else ", each at half of what a two-sided 10% may spend at the look,",
        f" place it within ±{plan.delta_text}; all else is inconclusive. ",
    ]
    if plan.variance != "arms":
        text.append(f"Intervals and tests take {error_bars.variance(findings)}. ")
    if plan.metric.fraction:
        text.append("Differences are in percentage points. ")
    text += _added(findings)
    turns = turning(findings)
    if turns:
        text.append(
            f"{plural(turns, 'comparison')} whose answer depends on runs that collapsed or diverged "
            f"{'is' if turns == 1 else 'are'} inconclusive. "
        )
    collapsed = "Runs that collapsed to guessing count on both sides of a comparison, and none"
    text.append(f"{collapsed if plan.tells_collapse else 'No run'} was left out by hand.")
    return text


def _added(findings: Findings) -> list[str | Cite]:
    """The verdicts of plans that ended before this one, which stand beside its own."""
    plan, before = findings.results.planned, earlier_in_words(findings.earlier)
    if not before:
        return []
    adds = f"This plan adds {plural(plan.seeds, 'seed')} to plan {plan.adds_to}, with the same arms. "
    return [
        f"{adds if plan.adds_to else ''}Earlier plans, each with an error rate of its own, had run to their end before "
        f"it ({before}). Their verdicts stand; estimates that take all plans together only describe, as "
        "whoever asked for more could see what the first ones said. "
    ]


def _estimators(findings: Findings) -> str:
    """As the effects table has them, with the families in which Holm's method adjusts."""
    ways = list(error_bars.methods(findings))
    return f"{'; '.join(ways)}; Holm over {error_bars.families(findings)}" if ways else ""


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
