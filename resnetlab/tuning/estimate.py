"""What a study would run and cost, said before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from resnetlab import design
from resnetlab.asha import rung_epochs
from resnetlab.config import MODEL_SETTINGS, TrialConfig
from resnetlab.data import Dataset, check, default_cache, prepare
from resnetlab.plan import Plan, pilot_trials, sketch
from resnetlab.records import ModelFacts, bad_rows_said
from resnetlab.seeding import stream
from resnetlab.study import Study
from resnetlab.tables.folder import Folder
from resnetlab.tuning import given
from resnetlab.tuning.capacity import asked
from resnetlab.tuning.search import Search
from resnetlab.tuning.seen import starts
from resnetlab.tuning.task import data_key
from resnetlab.wording import plural

if TYPE_CHECKING:
    from resnetlab.models.pretrained import Weights


def describe(study: Study, folder: Folder, weights: Weights | None = None) -> Iterator[str]:
    """The plan as lines: data, factors or arms, trials, size of the models, cost. Prepares the data, trains nothing.

    folder: where the results would lie; weights: a file's, which are held against every network that starts from them.
    """
    configs = starts(study)
    for config in configs.values():
        check(config.data)
    yield f"{study.name}: {study.title}"
    if study.question:
        yield f"  {study.question}"
    datasets = {data_key(config): prepare(config.data, default_cache()) for config in configs.values()}
    given.check(study, datasets, weights, folder)
    for config in {data_key(config): config for config in configs.values()}.values():
        yield _data(study, config, datasets[data_key(config)])
    if bad := datasets[data_key(next(iter(configs.values())))].notes.get("bad rows"):
        yield f"  {bad_rows_said(bad)}"
    threads = max(1, int(study.resources.cpus))
    yield f"each trial gets {asked(study.resources)}, and {plural(threads, 'thread')}"
    if not study.arms:
        yield "factors:"
    for factor in study.space.factors:
        kind = "compared" if factor.name in study.compared_factors() else "tuned"
        yield f"  {factor.name} ({kind}): " + "; ".join(branch.describe() for branch in factor.branches)
    if study.confirm.pilot:
        yield f"pilot: {study.confirm.pilot} runs of the baseline: {pilot_epochs(study)} epochs"
    if study.arms:
        yield from _arms(study, configs, datasets)
    else:
        yield from _explore(study)
    yield from confirm_stage(study)
    if study.arms:
        yield _cost_of_arms(study, configs, datasets)
    else:
        yield from _models(study, datasets[data_key(configs[""])])


def _data(study: Study, config: TrialConfig, dataset: Dataset) -> str:
    sizes = {name: len(dataset.split(name, stream(study.seed, "split"))) for name in ("train", "val", "test")}
    label = f" ({config.data.label})" if config.data.label else ""
    return (
        f"data: {config.data.name}{label}, {'×'.join(map(str, dataset.shape))}, {len(dataset.classes)} classes, "
        f"{sizes['train']:,} training, {sizes['val']:,} validation, {sizes['test']:,} test images"
    )


def _arms(study: Study, configs: dict[str, TrialConfig], datasets: dict[str, Dataset]) -> Iterator[str]:
    """A line for each named arm: its network, what it starts from, and its budget."""
    yield "arms:"
    for name, config in configs.items():
        dataset = datasets[data_key(config)]
        facts = _facts(config, dataset)
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


def _cost_of_arms(study: Study, configs: dict[str, TrialConfig], datasets: dict[str, Dataset]) -> str:
    work = 0.0
    for config in configs.values():
        dataset = datasets[data_key(config)]
        work += 3 * _facts(config, dataset).multiply_adds * _images(study, config, dataset) * config.epochs
    epochs = pilot_epochs(study) + confirm_epochs(study)
    return (
        f"cost: {epochs:,} epochs, at most about {study.confirm.seeds * work:.1e} multiply-adds of training (fewer "
        "where stages are frozen)"
    )


def _explore(study: Study) -> Iterator[str]:
    search = study.search
    rungs = ", ".join(map(str, search.rungs)) or "none"
    low, high = explore_epochs(study)
    yield (
        f"explore: {search.trials} trials ({search.sampler}), up to {search.epochs} epochs each, "
        f"ASHA decides at epochs {rungs}, {search.audit:.0%} exempt: about {low} to {high} epochs"
    )


def pilot_epochs(study: Study) -> int:
    """Epochs of the baseline's runs."""
    return sum(config.epochs for _, config in pilot_trials(study))


def explore_epochs(study: Study) -> tuple[int, int]:
    """Epochs of the explore stage: where every rung lets one in `reduction` go on, and where nothing is stopped."""
    search = study.search
    high = study.explore_trials * search.epochs
    if not search.stopping:
        return high, high
    at, alive, before, low = [*rung_epochs(search.grace, search.reduction, search.epochs), search.epochs], 1.0, 0, 0.0
    for epoch in at:
        low += alive * (epoch - before)
        before, alive = epoch, alive / search.reduction
    low = search.audit * search.epochs + (1 - search.audit) * low
    return round(low * study.explore_trials), high


def confirm_stage(study: Study) -> Iterator[str]:
    """The design around the baseline, because the incumbent is not known yet, and what it leaves out."""
    if study.confirm.design == "none":
        yield "confirm: none, so nothing will be claimed"
        return
    plan = sketch(study)
    arms, seeds = len(plan.arms), plan.seeds
    budgets = sorted({config.epochs for config in _configs(study, plan)})
    good = "" if plan.efficiency is None else f", D-efficiency {plan.efficiency:.0%}"
    yield (
        f"confirm: {plan.design}{good}, {arms} arms × {seeds} seeds = {arms * seeds} runs "
        f"of {' or '.join(map(str, budgets))} epochs: {confirm_epochs(study)} epochs"
    )
    for line in plan.infeasible:
        yield f"  cannot be run: {line}"
    for name, why in plan.not_compared.items():
        yield f"  not compared: {name}: {why}"


def confirm_epochs(study: Study) -> int:
    """Epochs of the confirm stage, laid around the baseline."""
    if study.confirm.design == "none":
        return 0
    return study.confirm.seeds * sum(config.epochs for config in _configs(study, sketch(study)))


def _configs(study: Study, plan: Plan) -> list[TrialConfig]:
    """One config for each arm."""
    return [config for *_, config in islice(plan.trials(study), len(plan.arms))]


def _models(study: Study, dataset: Dataset) -> Iterator[str]:
    shapes: dict[str, dict[str, Any]] = {}
    for values in _corners(study):
        shapes.setdefault(str({name: value for name, value in values.items() if name in _ARCHITECTURE}), values)
    found = [(_facts(study.config(values, seed=0), dataset), values) for values in shapes.values()]
    ordered = sorted(found, key=lambda item: item[0].parameters)
    for word, (facts, values) in (("smallest", ordered[0]), ("largest", ordered[-1])):
        levels = ", ".join(f"{name}={design.show(value)}" for name, value in values.items() if name in _ARCHITECTURE)
        yield (
            f"{word} model: {facts.parameters:,} parameters, {facts.multiply_adds:,} multiply-adds an image"
            + (f" ({levels})" if levels else "")
        )
    baseline = _facts(study.baseline_config(seed=0), dataset)
    train = len(dataset.split("train", stream(study.seed, "split")))
    epochs = pilot_epochs(study) + explore_epochs(study)[1] + confirm_epochs(study)
    work = 3 * baseline.multiply_adds * train * epochs
    yield f"cost: at most {epochs:,} epochs, about {work:.1e} multiply-adds of training at the baseline's size"


def heaviest(study: Study, datasets: Mapping[str, Dataset]) -> TrialConfig:
    """Of the configs that the study may try, one whose step costs most: it holds the most memory, or nearly."""

    def cost(config: TrialConfig) -> int:
        return _facts(config, datasets[data_key(config)]).multiply_adds * config.batch

    corners = [] if study.arms else [study.config(values, seed=0) for values in _corners(study)]
    return max([*starts(study).values(), *corners], key=cost)


_ARCHITECTURE = frozenset({"model", "frozen", "input_size", *MODEL_SETTINGS})


def _corners(study: Study, most: int = 256) -> Iterator[dict[str, Any]]:
    """The baseline, and random feasible points: enough to find the extremes of a space of a few factors."""
    yield study.baseline_values()
    content = study.model_copy(update={"search": study.search.model_copy(update={"sampler": "random"})})
    search = Search(content)
    for number in range(1, most):
        asked = search.ask(number)
        if asked is None:
            return
        yield asked[1]


def _facts(config: TrialConfig, dataset: Dataset) -> ModelFacts:
    import torch

    from resnetlab.models import build, facts

    with torch.device("meta"):
        model = build(config, dataset.shape, len(dataset.classes))
        return facts(model, config, dataset.shape)


def arm_facts(study: Study, shape: tuple[int, int, int], classes: int) -> dict[str, dict[str, float]]:
    """Parameters of each named arm's network for images of `shape` (H, W, C) and so many classes."""
    import torch

    from resnetlab.models import build, facts

    found: dict[str, dict[str, float]] = {}
    for name in study.arms:
        config = study.arm_config(name, seed=0)
        with torch.device("meta"):
            counted = facts(build(config, shape, classes), config, shape)
        found[name] = {"parameters": counted.parameters, "trainable": counted.trainable}
    return found
