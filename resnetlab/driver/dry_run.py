"""What a study would run and cost, said before anything runs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from resnetlab.driver.checks import precision, rehearsal
from resnetlab.driver.checks.dataset_record import counts, notes, starts
from resnetlab.driver.checks.request import PARTS
from resnetlab.planning.making import pilot_trials, sketch
from resnetlab.planning.plan import Plan
from resnetlab.ray_backend.capacity import in_words
from resnetlab.search.optuna_sampler import MAX_ASKS, OptunaSampler
from resnetlab.study import Study, catalog, class_counts
from resnetlab.study.records import ModelFacts, bad_rows_said
from resnetlab.study.sections.search import USUAL_RULE
from resnetlab.study.seeding import stream
from resnetlab.study.trial_config import MODEL_SETTINGS, RunConfig, TrialConfig, of_images
from resnetlab.sweep.state_machine import Stage
from resnetlab.sweep.task import data_key
from resnetlab.vision import architecture
from resnetlab.vision.data import Dataset
from resnetlab.wording import level_text, plural

CORNERS = 256  # points of the space that are looked at


def describe(
    study: Study, datasets: Mapping[str, Dataset], stage: Stage = "all", slots: int | None = None
) -> Iterator[str]:
    """The plan as lines: data, factors or arms, trials, size of the models, cost. Trains nothing.

    datasets: by `data_key`; stage: how far the run would go, which is all that its cost counts; slots: the most trials
    that may run at once.
    """
    configs, parts = starts(study), PARTS[stage]
    yield f"{study.name}: {study.title}" if study.title else study.name
    if study.question:
        yield f"  {study.question}"
    if study.experiment:
        yield f"task: {study.experiment}, searched for: {study.searched.words}, confirmed: {study.confirmed.words}"
    for config in {data_key(config): config for config in configs.values()}.values():
        yield _data(study, config, datasets[data_key(config)])
        yield from _classes(config, datasets[data_key(config)])
        for line in notes(study, config, datasets[data_key(config)]):
            yield f"  {line}"
    first = next(iter(datasets.values()), None)
    if first is not None and (bad := first.notes.get("bad rows")):
        yield f"  {bad_rows_said(bad)}"
    threads = max(1, int(study.resources.cpus))
    most = "" if slots is None else f"; at most {plural(slots, 'trial')} at once"
    yield f"each trial gets {in_words(study.resources)}, and {plural(threads, 'thread')}{most}"
    if line := precision.check(study):
        yield line
    if not study.arms:
        yield "factors:"
    for factor in study.space.factors:
        kind = "compared" if factor.name in study.compared_factors() else "tuned"
        yield f"  {factor.name} ({kind}): " + "; ".join(branch.describe() for branch in factor.branches)
    left_out = f"not run with --phase {stage}; "
    if study.confirm.pilot:
        said = f"{study.confirm.pilot} runs of the baseline: {pilot_epochs(study)} epochs"
        yield f"pilot: {'' if 'pilot' in parts else left_out}{said}"
    if study.arms and study.experiment:
        yield f"arms: {', '.join(study.arms)}"
    elif study.arms:
        yield from _arms(study, configs, datasets)
    else:
        corners = list(corners_of(study))
        yield from _explore(study, corners, "" if "explore" in parts else left_out)
    yield from confirm_stage(study, "" if "confirm" in parts else left_out)
    if study.experiment:
        yield f"cost: at most {epochs_of(study, parts):,} epochs"
    elif study.arms:
        yield _cost_of_arms(study, configs, datasets, parts)
    else:
        yield from _models(study, datasets[data_key(configs[""])], corners, parts)


def _data(study: Study, config: TrialConfig, dataset: Dataset) -> str:
    sizes = {name: len(dataset.split(name, stream(study.seed, "split"))) for name in ("train", "val", "test")}
    label = f" ({config.data.label})" if config.data.label else ""
    return (
        f"data: {config.data.name}{label}, {'×'.join(map(str, dataset.shape))}, {len(dataset.classes)} classes, "
        f"{sizes['train']:,} training, {sizes['val']:,} validation, {sizes['test']:,} test images"
    )


def _classes(config: TrialConfig, dataset: Dataset) -> Iterator[str]:
    """The splits by class, as a table, and what guessing would reach."""
    splits = counts(config, dataset)
    headings, rows = class_counts.table(splits, dataset.classes)
    cells = [headings, *rows]
    widths = [max(len(row[at]) for row in cells) for at in range(len(headings))]
    for row in cells:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    for line in class_counts.judged(splits, dataset.classes):
        yield f"  {line}"


def _arms(study: Study, configs: dict[str, TrialConfig], datasets: Mapping[str, Dataset]) -> Iterator[str]:
    """A line for each named arm: its network, what it starts from, and its budget."""
    yield "arms:"
    for name, config in configs.items():
        dataset = datasets[data_key(config)]
        facts = _facts(study, config, dataset)
        trained = f"{facts.trainable:,} of " if facts.trainable < facts.parameters else ""
        source = study.arms[name].get("source")
        start = f"the stages of {source}" if source else f"weights {config.weights}" if config.weights != "none" else ""
        frozen = f", {config.frozen} of {config.stages} stages frozen" if config.frozen else ""
        yield (
            f"  {name}: {config.model}, {trained}{facts.parameters:,} parameters{' trained' * bool(trained)}, "
            f"{facts.multiply_adds:,} multiply-adds an image, "
            f"{plural(config.epochs, 'epoch')} of {_images(study, config, dataset):,} images"
            + (f", from {start}" if start else "")
            + frozen
        )


def _images(study: Study, config: TrialConfig, dataset: Dataset) -> int:
    """Images that one epoch of a trial trains on."""
    return round(config.data_fraction * len(dataset.split("train", stream(study.seed, "split"))))


def _cost_of_arms(
    study: Study, configs: dict[str, TrialConfig], datasets: Mapping[str, Dataset], parts: Collection[str]
) -> str:
    def work(config: TrialConfig) -> float:
        dataset = datasets[data_key(config)]
        return 3.0 * _facts(study, config, dataset).multiply_adds * _images(study, config, dataset) * config.epochs

    total = 0.0
    if "pilot" in parts and study.confirm.pilot:
        total += study.confirm.pilot * work(of_images(study.baseline_config(seed=0)))
    if "confirm" in parts:
        total += study.confirm.seeds * sum(map(work, configs.values()))
    return (
        f"cost: {epochs_of(study, parts):,} epochs, at most about {total:.1e} multiply-adds of training (fewer "
        "where stages are frozen)"
    )


def _explore(study: Study, corners: list[dict[str, Any]], left_out: str) -> Iterator[str]:
    search, trials = study.search, study.explore_trials
    low, high = explore_epochs(study)
    rungs = ", ".join(map(str, search.rungs))
    rule = "ASHA" if search.rule == USUAL_RULE else search.rule
    exempt = f"{search.audit:.0%} of trials exempt"
    how = f", {rule} decides at epochs {rungs}, {exempt}" if rungs else ", none is stopped early"
    many = plural(trials, "trial")
    yield (
        f"explore: {left_out}{many} ({search.sampler}), up to {search.epochs} epochs each{how}: "
        + (f"about {low} to {high} epochs" if low < high else f"{high} epochs")
    )
    if search.sampler == "grid":
        whole = "all" if trials == len(study.grid) else f"{trials} of"
        less = f"; {search.trials} were asked for" if trials < search.trials else ""
        yield f"  the grid: {whole} {len(study.grid)} combinations that can be run{less}"
        return
    if (points := study.distinct_points) is not None and trials > points:
        after = "some are tried again, each time with another seed" if search.repeat else "the search ends after them"
        yield f"  only {points} combinations can be run: {after}"
    if len(corners) < min(CORNERS, trials):
        yield (
            f"  the search may end after about {len(corners)} of them: so few combinations can be run that "
            f"{MAX_ASKS} proposals in a row hit none"
        )


def epochs_of(study: Study, parts: Collection[str]) -> int:
    """Epochs of these parts of the study, where nothing is stopped."""
    return (
        ("pilot" in parts) * pilot_epochs(study)
        + ("explore" in parts) * explore_epochs(study)[1]
        + ("confirm" in parts) * confirm_epochs(study)
    )


def pilot_epochs(study: Study) -> int:
    """Epochs of the baseline's runs."""
    return sum(config.epochs for _, config in pilot_trials(study))


def explore_epochs(study: Study) -> tuple[int, int]:
    """Epochs of the explore stage: where every rung lets as many go on as its rule keeps, and where none is stopped.
    Where no share is known, all might go at the first rung."""
    search = study.search
    high = study.explore_trials * search.epochs
    if not search.stopping:
        return high, high
    rule = catalog.stopping_rule(search.rule)
    kept = rule.keeps(search.__dict__) if rule is not None and rule.keeps is not None else 0.0
    at, alive, before, low = [*search.rungs, search.epochs], 1.0, 0, 0.0
    for epoch in at:
        low += alive * (epoch - before)
        before, alive = epoch, alive * kept
    low = search.audit * search.epochs + (1 - search.audit) * low
    return round(low * study.explore_trials), high


def confirm_stage(study: Study, left_out: str = "") -> Iterator[str]:
    """The design around the baseline, the incumbent's not being known yet, and what it cannot run or compare.

    left_out: said first, where this is not what would be run.
    """
    if study.confirm.design == "none":
        yield "confirm: none, so nothing will be claimed"
        return
    plan = sketch(study)
    arms, seeds = len(plan.arms), plan.seeds
    budgets = sorted({config.epochs for config in _configs(study, plan)})
    good = "" if plan.efficiency is None else f", D-efficiency {plan.efficiency:.0%}"
    around = ", around the baseline" if plan.around == "baseline" else ""
    yield (
        f"confirm: {left_out}{plan.design}{around}{good}, {arms} arms × {seeds} seeds = {arms * seeds} runs "
        f"of {' or '.join(map(str, budgets))} epochs: {confirm_epochs(study)} epochs"
    )
    if plan.looks is not None:
        what = "single arms stop" if plan.looks.stops == "arms" else "all stop"
        of = f"{len(plan.looks.primaries)} of {len(plan.contrasts)} comparisons" if study.confirm.primaries else "all"
        yield (
            f"  at most: looks after each block from the second, {what} once {of} "
            f"{'is' if of.startswith('1 ') else 'are'} settled"
        )
    if study.confirm.last_epochs > 1:
        yield f"  compared on {plan.metric.words}, in each of which a run reads the test split"
    for line in plan.infeasible:
        yield f"  cannot be run: {line}"
    for name, why in plan.not_compared.items():
        yield f"  not compared: {name}: {why}"


def confirm_epochs(study: Study) -> int:
    """Epochs of the confirm stage, laid around the baseline."""
    if study.confirm.design == "none":
        return 0
    return study.confirm.seeds * sum(config.epochs for config in _configs(study, sketch(study)))


def _configs(study: Study, plan: Plan) -> list[RunConfig]:
    """One config for each arm."""
    return [config for *_, config in islice(plan.trials(study), len(plan.arms))]


def _models(study: Study, dataset: Dataset, corners: list[dict[str, Any]], parts: Collection[str]) -> Iterator[str]:
    looked_at = _ARCHITECTURE | study.trial_type.own.names.keys()
    shapes = _shapes(corners, looked_at)
    configs = [of_images(study.config(values, seed=0)) for values in shapes.values()]
    found = list(zip(_all_facts(study, configs, dataset), shapes.values(), strict=True))
    ordered = sorted(found, key=lambda item: item[0].parameters)
    for word, (facts, values) in (("smallest", ordered[0]), ("largest", ordered[-1])):
        levels = ", ".join(f"{name}={level_text(value)}" for name, value in values.items() if name in looked_at)
        yield (
            f"{word} model: {facts.parameters:,} parameters, {facts.multiply_adds:,} multiply-adds an image"
            + (f" ({levels})" if levels else "")
        )
    baseline = _facts(study, of_images(study.baseline_config(seed=0)), dataset)
    train = len(dataset.split("train", stream(study.seed, "split")))
    epochs = epochs_of(study, parts)
    work = 3 * baseline.multiply_adds * train * epochs
    yield f"cost: at most {epochs:,} epochs, about {work:.1e} multiply-adds of training at the baseline's size"


def _shapes(corners: Iterable[dict[str, Any]], looked_at: Collection[str]) -> dict[str, dict[str, Any]]:
    """One point for each combination of the settings `looked_at`."""
    shapes: dict[str, dict[str, Any]] = {}
    for values in corners:
        shapes.setdefault(str({name: value for name, value in values.items() if name in looked_at}), values)
    return shapes


def own_networks(study: Study) -> list[TrialConfig]:
    """One config for each network with own code among the points that `describe` looks at."""
    if study.arms:
        return []
    points = _shapes(corners_of(study), _ARCHITECTURE | study.trial_type.own.names.keys()).values()
    return [config for values in points if (config := of_images(study.config(values, seed=0))).own_model]


def heaviest(study: Study, datasets: Mapping[str, Dataset]) -> TrialConfig:
    """Of the configs that the study may try, one whose step costs most: it holds the most memory, or nearly."""

    def cost(config: TrialConfig) -> int:
        return _facts(study, config, datasets[data_key(config)]).multiply_adds * config.batch_size

    corners = [] if study.arms else [of_images(study.config(values, seed=0)) for values in corners_of(study)]
    return max([*starts(study).values(), *corners], key=cost)


_ARCHITECTURE = frozenset({"model", "frozen", "input_size", *MODEL_SETTINGS})


def corners_of(study: Study, most: int = CORNERS) -> Iterator[dict[str, Any]]:
    """The baseline, and random feasible points: enough to find the extremes of a space of a few factors."""
    yield study.baseline_values()
    content = study.model_copy(update={"search": study.search.model_copy(update={"sampler": "random"})})
    search = OptunaSampler(content)
    for number in range(1, most):
        asked = search.ask(number)
        if asked is None:
            return
        yield asked[1]


def _facts(study: Study, config: TrialConfig, dataset: Dataset) -> ModelFacts:
    return _size(study, config, dataset.shape, len(dataset.classes))


def _all_facts(study: Study, configs: list[TrialConfig], dataset: Dataset) -> list[ModelFacts]:
    """Of several networks: those with code of the study's own are built in one process."""
    shape, classes = dataset.shape, len(dataset.classes)
    own = [config for config in configs if config.own_model]
    sizes = iter(rehearsal.built(study, [(config, shape, classes) for config in own]) if own else ())
    return [next(sizes) if one.own_model else _size(study, one, shape, classes) for one in configs]


def _size(study: Study, config: TrialConfig, shape: tuple[int, int, int], classes: int) -> ModelFacts:
    """By arithmetic where that tells; torch takes seconds to import. BadRequest where the network cannot be trained."""
    if config.own_model:
        return rehearsal.built(study, [(config, shape, classes)])[0]
    counted = architecture.facts(config, shape, classes)
    if counted is not None:
        return counted
    import torch

    from resnetlab.vision.models import build, facts

    with torch.device("meta"):
        return facts(build(config, shape, classes), config, shape)


def arm_facts(study: Study, shape: tuple[int, int, int], classes: int) -> dict[str, dict[str, float]]:
    """Parameters of each named arm's network for images of `shape` (H, W, C) and so many classes."""
    found: dict[str, dict[str, float]] = {}
    for name in study.arms:
        config = of_images(study.arm_config(name, seed=0))
        counted = _size(study, config, shape, classes)
        found[name] = {"parameters": counted.parameters, "trainable": counted.trainable}
    return found
