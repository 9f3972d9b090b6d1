"""Try a study's own code before its first trial, in processes of their own and under a time limit.

`try_parts` trains a batch where the study is one of images (`vision.rehearsal` is the process), `try_search_and_task`
asks its sampler and stopping rule and runs an epoch of its task (`rehearsal_process` beside this).
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from resnetlab.driver.checks.dataset_record import starts
from resnetlab.driver.checks.own_code import holds, source
from resnetlab.driver.checks.own_process import IMAGES, TASK, Answers, ask
from resnetlab.errors import BadRequest
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.study import Study
from resnetlab.study.records import ModelFacts
from resnetlab.study.trial_config import MODEL_SETTINGS, TrialConfig, of_images
from resnetlab.sweep.task import data_key

SECONDS = 120.0  # that one of these processes may take

Sized = tuple[TrialConfig, tuple[int, int, int], int]  # a config, the shape (H, W, C) of its images, and its classes


def built(study: Study, configs: Iterable[Sized]) -> list[ModelFacts]:
    """Build the networks of `configs` in a process of their own under a time limit, and return their sizes.

    What is known of the same network is not asked again. Raises BadRequest, with the traceback of the user's code, if
    anything fails.
    """
    wanted = list(configs)
    unknown = list({key: one for one in wanted if (key := _network(study, one)) not in _sizes}.values())
    if unknown:
        _note(study, unknown, _tried(study, [_item(one) for one in unknown], None).said("facts")[0])
    return [_sizes[_network(study, one)] for one in wanted]


_sizes: dict[str, ModelFacts] = {}  # by `_network`, as this process has been told


def _network(study: Study, sized: Sized) -> str:
    """What a network with own code depends on."""
    config, shape, classes = sized
    names = {"model", "frozen", "input_size", *MODEL_SETTINGS, *config.network_reads}
    settings = {name: getattr(config, name) for name in sorted(names)}
    return repr((study.own.source, settings, tuple(shape), classes))


def _note(study: Study, configs: Iterable[Sized], facts: Iterable[Mapping[str, Any]]) -> None:
    _sizes.update({_network(study, one): ModelFacts(**found) for one, found in zip(configs, facts, strict=True)})


def try_parts(study: Study, sizes: Mapping[str, tuple[tuple[int, int, int], int]], cache: Path) -> list[str]:
    """Try one batch of a study of images in a process of its own under a time limit: at the baseline or at each arm, at
    the smallest and the largest network, where they have own code, and at the points where all factors are lowest and
    highest, where these use own parts.

    sizes: shape (H, W, C) and number of classes of each dataset, by `data_key`. Far from the baseline a trial may
    diverge or run out of memory: a search records that and goes on. Returns lines on that and on what was not tried.
    Raises BadRequest, with the traceback of the user's code, if anything fails.
    """
    from resnetlab.driver.dry_run import own_networks  # which asks `built`

    def sized(config: TrialConfig) -> Sized:
        return config, *sizes[data_key(config)]

    baseline, first, networks = study.baseline_config(seed=0), starts(study), own_networks(study)
    items = [_item(sized(config), f"arm {name}" if config != baseline else "") for name, config in first.items()]
    far = [(where, of_images(config)) for where, config in study.far_configs() if not study.arms]
    points = [
        _item(sized(config), where) | {"batch_size": of_images(baseline).batch_size}
        for where, config in far
        if config.own.chosen(config.__dict__)
    ]
    found = _tried(study, items, cache, [_item(sized(config)) for config in networks], points)
    known = [*found.said("facts"), *found.said("networks")]
    for configs, facts in zip((first.values(), networks), known, strict=False):
        _note(study, map(sized, configs), facts)
    late = [] if found.in_time else [_not_tried(found.left)]
    return [*found.said("note"), *late]


def _item(sized: Sized, where: str = "") -> dict[str, Any]:
    config, shape, classes = sized
    return {"config": config.model_dump(mode="json"), "shape": shape, "classes": classes, "where": where}


def _tried(
    study: Study,
    items: list[dict[str, Any]],
    cache: Path | None,
    networks: Sequence[dict[str, Any]] = (),
    points: Sequence[dict[str, Any]] = (),
) -> Answers:
    code = source(study)
    assert code is not None
    job = {
        "own": study.own.model_dump(mode="json"),
        "code": dict(code.files),
        "items": items,
        "networks": networks,
        "points": points,
        "cache": None if cache is None else str(cache),
    }
    found = ask(IMAGES, job, SECONDS)
    for problem in found.said("problem"):
        raise BadRequest(f"{study.name}: {problem}")
    if found.in_time and (found.left or not found.lines):
        parts = ", ".join(f"{part.key}: {part.text}" for part in study.own.parts)
        raise BadRequest(f"{study.name}: {parts}: {f'at {found.left[0]}: ' if found.left else ''}{found.how}")
    if not found.said("facts"):
        long = f"its own code took more than {SECONDS:g} s to build its networks and train one batch"
        raise BadRequest(f"{study.name}: {long}")
    return found


def try_search_and_task(
    study: Study, folder: ResultsFolder, cache: Path, alone: bool = False, elsewhere: bool = False
) -> list[str]:
    """Try the study's own sampler, stopping rule and task in a process of their own, under a time limit, unless results
    of this code are in `folder` already.

    cache: below which a task keeps its data; what it makes stays there where all was tried. alone: trials run one at a
    time. elsewhere: they run on a cluster, whose nodes may have what this machine lacks; a task that fails here is then
    told, not refused. Returns lines on what was not tried, and on what a search has to expect. Raises BadRequest, in
    the user's terms, if anything is wrong.
    """
    tried = [part for part in study.own.parts if part.key in ("search.sampler", "search.stopping", "experiment")]
    if not tried or holds(folder, study):
        return []
    notes = []
    if study.own.task is not None and study.resources.needed_gpus:
        notes.append(f"experiment: {study.experiment} is not tried before the first trial: it asks for a GPU")
        tried.remove(study.own.task)
    if not tried:
        return notes
    with tempfile.TemporaryDirectory(prefix="resnetlab-code-", ignore_cleanup_errors=True) as place:
        job = {
            "study": study.recorded(),
            "code": dict(study.code),
            "keys": [part.key for part in tried],
            "place": place,
            "cache": str(cache.absolute()),
            "seconds": SECONDS,
            "alone": alone,
        }
        found = ask(TASK, job, SECONDS)
        if found.in_time and not found.said("problem"):
            _hand_over(Path(place, "cache", "tasks"), cache / "tasks")
    notes += found.said("note")
    for problem in found.said("problem"):
        if elsewhere and found.left[0].startswith("experiment: "):
            return [*notes, f"tried on this machine, not on a node: {problem}"]
        raise BadRequest(f"{study.name}: {problem}")
    if found.left and found.in_time and found.code:
        raise BadRequest(f"{study.name}: {found.left[0]}: {found.how}")
    return [*notes, _not_tried(found.left)] if found.left else notes


def _not_tried(left: Sequence[str]) -> str:
    return f"not tried before the first trial, for lack of time ({SECONDS:g} s): {'; '.join(left)}"


def _hand_over(made: Path, tasks: Path) -> None:
    """Move the data that a task has made when it was tried, so that its trials need not make it again."""
    for folder in made.iterdir() if made.is_dir() else ():
        tasks.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=tasks) as aside, contextlib.suppress(OSError):
            shutil.move(folder, aside)  # which may copy: `tasks` never has a part of it
            Path(aside, folder.name).rename(tasks / folder.name)
