"""A study's own parts, built and tried for one batch: `python -m resnetlab.vision.rehearsal`.

A job comes as JSON on standard input. The answers go to standard output, a JSON object a line: `left` names what is
still to be tried, `facts` and `networks` are the sizes of those of the job, `note` is for people to hear, and `problem`
says what is wrong, in words. `driver.checks.rehearsal` asks, and ends this process when its time is over.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from resnetlab.errors import BadRequest, ResnetlabError
from resnetlab.experiment.messages import Ending
from resnetlab.experiment.own_parts import OwnParts, scores
from resnetlab.experiment.source import Source
from resnetlab.study.own_config import trial_type
from resnetlab.study.parts import OwnCode, Part
from resnetlab.study.records import ModelFacts
from resnetlab.study.seeding import stream
from resnetlab.study.trial_config import TrialConfig, of_images
from resnetlab.vision.data import prepare
from resnetlab.vision.models import build, facts
from resnetlab.vision.training import checkpoint
from resnetlab.vision.training.loop import Diverged, Training
from resnetlab.vision.training.optim import schedule

IMAGES = 1000  # made up, for metrics
PARTS_OF_A_RUN = 100  # at each of which a schedule is asked
NO_GRADIENT = "no parameter of the network gets a gradient from the loss"
KEPT = "tensors, numbers, text, None, and lists, tuples and dicts of these"


def main() -> None:
    """Answer one job."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a user's code prints is not an answer
    torch.set_num_threads(1)
    text = sys.stdin.read()
    if not text:  # it was started early, and the study was refused before this
        return
    job = json.loads(text)

    def say(**answer: Any) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    with tempfile.TemporaryDirectory(prefix="resnetlab-code-") as place:
        Rehearsal(job, Path(place), say).run()


class Rehearsal:
    """One job: the metrics, the trials of `items`, the smallest and the largest of `networks`, and the `points` far
    from the baseline. say: gives one answer."""

    def __init__(self, job: Mapping[str, Any], place: Path, say: Callable[..., None]):
        own = OwnCode(**job["own"])
        self._items, self._networks, self._points = (job[key] for key in ("items", "networks", "points"))
        self._place, self._say, self._parts = place, say, own.parts
        self._cache = None if job["cache"] is None else Path(job["cache"])
        self._folder = Source(job["code"], own.folder).unpack(place)
        self._kind = trial_type(own.parts)
        self._at = self._used = ""  # what is being tried, and the own parts that it uses, for messages
        self._done: set[str] = set()  # ids of the trials whose batch was tried

    def run(self) -> None:
        """Answer, up to the first problem."""
        try:
            self._run()
        except ResnetlabError as error:
            self._say(problem=f"{error}\n{self._at}".rstrip())
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # nobody can press Ctrl-C here
            ending = Ending.of(error, self._place)
            part = _blamed(error, self._parts, self._folder)
            self._say(problem=f"{part}{ending.reason}\n{self._at}\n{ending.traceback}".rstrip())

    def _run(self) -> None:
        self._left("its metrics")
        _score(self._parts, self._folder, max((item["classes"] for item in self._items), default=2))
        found = []
        for item in self._items:
            self._left(item["where"] or "the baseline")
            found.append(asdict(self._tried(item)))
        self._say(facts=found)
        ends = ("the smallest network", min), ("the largest network", max)
        networks = []
        for item in self._networks:
            self._left(*(where for where, _ in ends), *_places(self._points))
            networks.append(asdict(self._built(item)[1]))
        self._say(networks=networks)
        sizes = [found["multiply_adds"] for found in networks]
        for number, (where, choose) in enumerate(ends if sizes else ()):
            self._left(*(where for where, _ in ends[number:]), *_places(self._points))
            self._tried({**self._networks[sizes.index(choose(sizes))], "where": where})
        for number, item in enumerate(self._points):
            self._left(*_places(self._points[number:]))
            self._far(item)
        self._left()

    def _left(self, *places: str) -> None:
        self._say(left=places)

    def _config(self, item: Mapping[str, Any]) -> TrialConfig:
        config = of_images(self._kind.model_validate(item["config"]))
        self._used = ", ".join(f"{part.key}: {part.text}" for part in config.own.chosen(config.__dict__))
        self._at = f"at {config.own_words}" + (f" ({item['where']})" if item["where"] else "")
        return config

    def _built(self, item: Mapping[str, Any]) -> tuple[TrialConfig, ModelFacts]:
        """A trial's config, and the sizes of its network."""
        config, shape = self._config(item), tuple(item["shape"])
        torch.manual_seed(stream(config.seed, "init") % 2**63)
        return config, facts(build(config, shape, item["classes"], OwnParts(config, self._folder)), config, shape)

    def _tried(self, item: Mapping[str, Any]) -> ModelFacts:
        """Build a network and, where there is a cache, train it on one batch, twice, and keep its state."""
        config, found = self._built(item)
        if self._is_new(config):
            with self._expected(item["where"]):
                self._scheduled(config)
                self._whole(config)
        return found

    def _far(self, item: Mapping[str, Any]) -> None:
        """Train on one batch, of no more images than the baseline's."""
        config = self._config(item)
        if self._is_new(config):
            fewer = config.model_copy(update={"batch_size": min(config.batch_size, item["batch_size"])})
            with self._expected(item["where"]):
                self._scheduled(config)
                self._one_batch(self._training(fewer))

    def _is_new(self, config: TrialConfig) -> bool:
        """Whether a batch of this trial is to be tried."""
        new = self._cache is not None and config.trial_id not in self._done
        self._done.add(config.trial_id)
        return new

    def _training(self, config: TrialConfig) -> Training:
        """From random values: what a trial starts from may not have been trained yet."""
        assert self._cache is not None
        config = config.model_copy(update={"weights": "none"})
        return Training(config, prepare(config.data, self._cache), code=self._folder)

    def _scheduled(self, config: TrialConfig) -> None:
        """Ask an own schedule all along the run."""
        own = OwnParts(config, self._folder)
        if own.one("schedule"):
            multiplier = schedule(config, own)
            for part in range(PARTS_OF_A_RUN):
                multiplier(part / PARTS_OF_A_RUN)

    def _whole(self, config: TrialConfig) -> None:
        one, other = (self._training(config) for _ in range(2))
        losses = [self._one_batch(training) for training in (one, other)]
        if losses[0] != losses[1]:
            raise BadRequest(
                f"the loss of the first batch is {losses[0]!r}, and {losses[1]!r} when it is run again with the same "
                "seed (allowed: randomness from torch's generator, or from the one that is passed)\n"
                f"own code in use: {self._used}"
            )
        _keep(other.state(), OwnParts(config, self._folder))

    def _one_batch(self, training: Training) -> float:
        """The loss of the first batch. Diverged where it is not finite, BadRequest where nothing is learned from it."""
        nothing = BadRequest(f"{NO_GRADIENT}\nown code in use: {self._used}")
        try:
            training.one_batch()
        except RuntimeError as error:
            if "does not require grad" not in str(error):  # torch's words for a loss that no parameter has a part in
                raise
            raise nothing from None
        loss, _ = training.sums()
        trained = [value for value in training.model.parameters() if value.requires_grad]
        if all(value.grad is None for value in trained):
            raise nothing
        if not math.isfinite(loss):
            raise Diverged(f"the loss of the first batch is {loss!r}")
        return loss

    @contextlib.contextmanager
    def _expected(self, where: str) -> Iterator[None]:
        """Far from the baseline, let pass how a trial of a search may end, with a note. where: empty at the
        baseline."""
        try:
            yield
        except Exception as error:
            ending = Ending.of(error, self._place)
            if where and ending.status.expected:
                self._say(note=f"{ending.reason}, {self._at}")
            elif isinstance(error, Diverged):
                raise BadRequest(f"{error} (allowed: a finite number)") from None
            else:
                raise


def _places(points: Iterable[Mapping[str, Any]]) -> list[str]:
    return [point["where"] for point in points]


def _blamed(error: BaseException, parts: Iterable[Part], folder: Path) -> str:
    """The part in which an error came up, as `model: my_net.py:net: `; empty where that is not known."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        code, module = frame.f_code, frame.f_globals.get("__name__")
        here = [
            part
            for part in parts
            if (part.file and Path(code.co_filename) == (folder / part.file).resolve())
            or (part.module and part.module == module)
        ]
        named = [part for part in here if f"{code.co_qualname}.".startswith(f"{part.name}.")]
        if named or len(here) == 1:
            part = [*named, *here][0]
            return f"{part.key}: {part.text}: "
    return ""


def _score(parts: Iterable[Part], folder: Path, classes: int) -> None:
    """Compute the study's own metrics of made-up logits, twice. Raises what `Score.of` does, and what they raise."""
    labels = np.arange(IMAGES) % classes
    logits = np.random.default_rng(0).normal(size=(IMAGES, classes)).astype(np.float32)
    for score in scores([part for part in parts if part.key == "metrics"], folder):
        one, other = score.of(labels, logits), score.of(labels, logits)
        if one != other:
            raise BadRequest(
                f"metrics: {score.name}: is {one!r}, and {other!r} of the same labels and logits (allowed: a function "
                "of these alone)"
            )


def _keep(state: Mapping[str, Any], own: OwnParts) -> None:
    """BadRequest, with the part, where a checkpoint cannot keep the state, or cannot be read again."""
    for key in ("model", "optimizer"):
        try:
            checkpoint.load(checkpoint.save({key: state[key]}))
        except Exception as error:
            part = own.one(key)
            name = key if part is None else str(part.reference)
            found = next(_not_kept(state[key]), f"{type(error).__name__}: {error}")
            raise BadRequest(f"{name}: its state cannot be kept in a checkpoint: {found} (allowed: {KEPT})") from None


def _not_kept(value: Any, place: str = "") -> Iterator[str]:
    """What of a state is of a type that is not in KEPT, and where."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _not_kept(item, f"{place}[{key!r}]")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _not_kept(item, f"{place}[{number}]")
    elif not isinstance(value, Tensor) and type(value) not in (bool, int, float, str, bytes, type(None)):
        yield f"{place} is a {type(value).__name__}"


if __name__ == "__main__":
    main()
