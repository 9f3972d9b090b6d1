"""Networks with a study's own code, built and tried for one batch: `python -m resnetlab.vision.rehearsal`.

A job comes as JSON on standard input, and the answer goes as one line of JSON to standard output: the sizes of all
networks, or the first problem in words. `driver.checks.own_code` asks.
"""

from __future__ import annotations

import io
import json
import math
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resnetlab.errors import BadRequest, ResnetlabError
from resnetlab.experiment.messages import Ending
from resnetlab.experiment.own import OwnParts, scores
from resnetlab.experiment.source import Source
from resnetlab.study.parts import OwnCode
from resnetlab.study.records import ModelFacts
from resnetlab.study.seeding import stream
from resnetlab.study.trial_config import TrialConfig, of_images, trial_type
from resnetlab.vision.data import prepare
from resnetlab.vision.models import build, facts
from resnetlab.vision.training.loop import Training

IMAGES = 1000  # made up, for metrics
NO_GRADIENT = "no parameter of the network gets a gradient from the loss"


def main() -> None:
    """Answer one job."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a user's code prints is not an answer
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="resnetlab-code-") as place:
        print(json.dumps(_answer(json.load(sys.stdin), Path(place))), file=answers, flush=True)


def _answer(job: Mapping[str, Any], place: Path) -> dict[str, Any]:
    own = OwnCode(**job["own"])
    folder = Source(job["code"], own.folder).unpack(place)
    kind, at = trial_type(own.parts), ""

    def tried(item: Mapping[str, Any], cache: str | None) -> ModelFacts:
        nonlocal at
        config = of_images(kind.model_validate(item["config"]))
        at = ", ".join(f"{name}={getattr(config, name)}" for name in config.own.read(config.__dict__))
        return _tried(config, tuple(item["shape"]), item["classes"], folder, cache)

    try:
        _score(own, folder, max((item["classes"] for item in job["items"]), default=2))
        sizes = {number: tried(other, None).multiply_adds for number, other in enumerate(job["others"])}
        extremes = {choose(sizes, key=sizes.__getitem__) for choose in (min, max)} if sizes else set()
        found = [asdict(tried(item, job["cache"])) for item in job["items"]]
        for number in sorted(extremes):
            tried(job["others"][number], job["cache"])
    except ResnetlabError as error:
        return {"problem": f"{error}\nat {at}" if at else str(error)}
    except Exception as error:
        ending = Ending.of(error, place)
        return {"problem": f"{ending.reason}\nat {at}\n{ending.traceback}".rstrip()}
    return {"facts": found}


def _score(own: OwnCode, folder: Path, classes: int) -> None:
    """Compute the study's own metrics of made-up logits. Raises what `Score.of` does, and what they raise."""
    labels = np.arange(IMAGES) % classes
    logits = np.random.default_rng(0).normal(size=(IMAGES, classes)).astype(np.float32)
    for score in scores([part for part in own.parts if part.key == "metrics"], folder):
        score.of(labels, logits)


def _tried(
    config: TrialConfig, shape: tuple[int, int, int], classes: int, folder: Path, cache: str | None
) -> ModelFacts:
    torch.manual_seed(stream(config.seed, "init") % 2**63)
    found = facts(build(config, shape, classes, OwnParts(config, folder)), config, shape)
    if cache is None:
        return found
    if config.weights.startswith("trial:"):  # which has not been trained yet
        config = config.model_copy(update={"weights": "none"})
    dataset = prepare(config.data, Path(cache))
    losses = [_one_batch(Training(config, dataset, code=folder)) for _ in range(2)]
    if not math.isfinite(losses[0]):
        raise BadRequest(f"the loss of the first batch is {losses[0]!r} (allowed: a finite number)")
    if losses[0] != losses[1]:
        raise BadRequest(
            f"the loss of the first batch is {losses[0]!r}, and {losses[1]!r} when it is run again with the same seed "
            "(allowed: randomness from torch's generator, or from the one that is passed)"
        )
    training = Training(config, dataset, code=folder)
    try:
        torch.save(training.state(), io.BytesIO())
    except Exception as error:
        raise BadRequest(f"its state cannot be saved in a checkpoint: {type(error).__name__}: {error}") from None
    return found


def _one_batch(training: Training) -> float:
    try:
        training.one_batch()
    except RuntimeError as error:
        if "does not require grad" not in str(error):  # torch's words for a loss that no parameter has a part in
            raise
        raise BadRequest(NO_GRADIENT) from None
    loss, _ = training.sums()
    without = [name for name, value in training.model.named_parameters() if value.requires_grad and value.grad is None]
    if len(without) == sum(1 for value in training.model.parameters() if value.requires_grad):
        raise BadRequest(NO_GRADIENT)
    return loss


if __name__ == "__main__":
    main()
