"""The size of a trial's network by arithmetic, so that a dry run need not load torch."""

from __future__ import annotations

from resnetlab.study import catalog
from resnetlab.study.records import ModelFacts
from resnetlab.study.trial_config import TrialConfig
from resnetlab.vision.sizes import NoPixel, Size


def facts(config: TrialConfig, shape: tuple[int, int, int], classes: int) -> ModelFacts | None:
    """What `models.facts` counts in the network of `config` for images of `shape` (H, W, C).

    None where only building the network tells: its size, or whether it can be trained on such images at all.
    """
    part = catalog.network(config.model)
    if config.batch_size == 1 or part is None or part.sizes is None:
        return None
    settings = catalog.part("model", config.model).values(config)
    try:
        *stages, head = part.sizes(shape=shape, classes=classes, **settings)
    except NoPixel:
        return None
    whole = sum([*stages, head], Size())
    frozen = sum(stages[: config.frozen], Size())
    return ModelFacts(whole.parameters, whole.parameters - frozen.parameters, whole.multiply_adds)
