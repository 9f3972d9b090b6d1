from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from resnetlab.errors import BadRequest
from resnetlab.study import catalog
from resnetlab.study.trial_config import TrialConfig
from resnetlab.vision import architecture
from resnetlab.vision.models import build, facts
from resnetlab.vision.parts.models.resnet import halving_blocks

SHAPE = (8, 8, 3)


def config(**settings):
    return TrialConfig(data={"name": "glyphs"}, **settings)


@st.composite
def feasible(draw):
    blocks = draw(st.integers(1, 4))
    return config(
        blocks=blocks,
        kernel=draw(st.sampled_from([1, 3, 5])),
        width=draw(st.integers(1, 6)),
        downsample=draw(st.integers(0, blocks)),
        shortcut=draw(st.booleans()),
        se=draw(st.booleans()),
        pool=draw(st.sampled_from(["average", "flatten"])),
        head_depth=draw(st.integers(1, 3)),
        head_width=draw(st.integers(1, 7)),
        dropout=draw(st.sampled_from([0.0, 0.5])),
        frozen=draw(st.integers(0, blocks + 1)),
    )


def by_arithmetic(c, shape, classes):
    """(parameters, multiply-adds) from the definition of the family alone."""
    height, width, channels = shape
    parameters = channels * 9 * c.width + 2 * c.width
    work = height * width * channels * 9 * c.width
    channels = c.width
    halving = {j * c.blocks // (c.downsample + 1) for j in range(1, c.downsample + 1)}
    for i in range(c.blocks):
        outputs = channels * (2 if i in halving else 1)
        if i in halving:
            height, width = (height + 1) // 2, (width + 1) // 2
        weights = c.kernel**2 * (channels * outputs + outputs**2)
        parameters += weights + 4 * outputs
        work += height * width * weights
        if c.se:
            hidden = max(8, outputs // 16)
            parameters += 2 * hidden * outputs + hidden + outputs
            work += 2 * hidden * outputs
        if c.shortcut and i in halving:
            parameters += channels * outputs + 2 * outputs
            work += height * width * channels * outputs
        channels = outputs
    features = channels * (height * width if c.pool == "flatten" else 1)
    sizes = [features, *[c.head_width] * (c.head_depth - 1), classes]
    for inputs, outputs in pairwise(sizes):
        parameters += inputs * outputs + outputs
        work += inputs * outputs
    return parameters, work


@settings(max_examples=60)
@given(
    c=feasible(),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.sampled_from([1, 3]),
    classes=st.integers(2, 5),
)
def test_every_feasible_config_builds_and_counts(c, height, width, channels, classes):
    shape = (height, width, channels)
    model = build(c, shape, classes)
    logits = model(torch.rand(2, channels, height, width))
    assert logits.shape == (2, classes) and logits.isfinite().all()
    found = facts(model, c, shape)
    assert (found.parameters, found.multiply_adds) == by_arithmetic(c, shape, classes)
    assert found.trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for stage in model.stages[: c.frozen] for p in stage.parameters())
    assert found.parameters - found.trainable == frozen


@pytest.mark.parametrize(
    ("settings", "classes", "parameters"),
    [
        # One block of width 4, kernel 3, no halving: stem, two convolutions, linear.
        ({"blocks": 1, "width": 4, "downsample": 0}, 10, (3 * 9 * 4 + 8) + 2 * (4 * 4 * 9 + 8) + (4 * 10 + 10)),
        # The block halves: 4 -> 8 channels, a 1x1 projection beside it.
        (
            {"blocks": 1, "width": 4, "downsample": 1},
            10,
            (3 * 9 * 4 + 8) + (4 * 8 * 9 + 16) + (8 * 8 * 9 + 16) + (4 * 8 + 16) + (8 * 10 + 10),
        ),
        # The same without shortcut, kernel 5, on the flattened 4x4 map with 6 hidden units.
        (
            {
                "blocks": 1,
                "width": 4,
                "downsample": 1,
                "shortcut": False,
                "kernel": 5,
                "pool": "flatten",
                "head_depth": 2,
                "head_width": 6,
            },
            10,
            (3 * 9 * 4 + 8) + (4 * 8 * 25 + 16) + (8 * 8 * 25 + 16) + (8 * 16 * 6 + 6) + (6 * 10 + 10),
        ),
        # Squeeze-excitation: 32 channels, 8 hidden units.
        (
            {"blocks": 1, "width": 32, "downsample": 0, "se": True},
            5,
            (3 * 9 * 32 + 64) + 2 * (32 * 32 * 9 + 64) + (32 * 8 + 8 + 8 * 32 + 32) + (32 * 5 + 5),
        ),
        # ResNet-20 of He et al. with 1x1 projections; the paper's own (without them) is rounded to 0.27 M.
        ({"blocks": 9, "width": 16, "downsample": 2}, 10, 272_474),
    ],
)
def test_parameters_by_hand(settings, classes, parameters):
    c = config(**settings)
    found = facts(build(c, SHAPE, classes), c, SHAPE)
    assert found.parameters == found.trainable == parameters


@pytest.mark.parametrize("settings", [{}, {"kernel": 5, "pool": "flatten", "head_depth": 3}, {"se": True, "blocks": 5}])
def test_multiply_adds_agree_with_torch(settings):
    c = config(**settings)
    model = build(c, SHAPE, 10)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.rand(1, 3, 8, 8))
    assert 2 * facts(model, c, SHAPE).multiply_adds == counter.get_total_flops()


def test_dry_run_on_the_meta_device():
    c = config(blocks=64, width=512, downsample=6, pool="flatten", head_depth=2, head_width=16384)
    with torch.device("meta"):
        model = build(c, (32, 32, 3), 1000)
    found = facts(model, c, (32, 32, 3))
    assert (found.parameters, found.multiply_adds) == by_arithmetic(c, (32, 32, 3), 1000)
    assert found.parameters > 10**10


def test_facts_leave_the_model_as_it_was():
    c = config(frozen=2)
    model = build(c, SHAPE, 10).train()
    before = [(module.training, len(module._forward_hooks)) for module in model.modules()]
    buffers = [buffer.clone() for buffer in model.buffers()]
    facts(model, c, SHAPE)
    assert [(module.training, len(module._forward_hooks)) for module in model.modules()] == before
    assert all(torch.equal(one, other) for one, other in zip(model.buffers(), buffers, strict=True))


@pytest.mark.parametrize(
    ("blocks", "downsample", "expected"),
    [(1, 0, []), (1, 1, [0]), (2, 1, [1]), (3, 2, [1, 2]), (4, 1, [2]), (9, 2, [3, 6]), (3, 3, [0, 1, 2])],
)
def test_where_the_map_is_halved(blocks, downsample, expected):
    assert sorted(halving_blocks(blocks, downsample)) == expected


@given(st.integers(1, 64), st.integers(0, 6))
def test_halvings_are_as_many_as_asked_and_spread_evenly(blocks, downsample):
    downsample = min(blocks, downsample)
    places = [0, *sorted(halving_blocks(blocks, downsample)), blocks]
    assert len(places) == downsample + 2 and places[-2] < blocks
    gaps = [after - before for before, after in pairwise(places)]
    assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("size", [1, 2, 5, 32])
def test_map_never_falls_below_one_pixel(size):
    model = build(config(blocks=6, downsample=6, width=2, kernel=7), (size, size, 1), 3)
    x = torch.rand(2, 1, size, size)
    for stage in model.stages:
        before = x.shape[-1]
        x = stage(x)
        assert x.shape[-1] in (before, -(-before // 2)) and x.shape[-1] >= 1
    assert x.shape[1] == 2 * 2**6


def test_frozen_stages_stay_in_evaluation_mode():
    model = build(config(blocks=3, frozen=2), SHAPE, 10).train()
    frozen, free = model.stages[:2], [*model.stages[2:], model.head]
    assert not any(module.training for stage in frozen for module in stage.modules())
    assert not any(p.requires_grad for stage in frozen for p in stage.parameters())
    assert all(
        module.training and p.requires_grad for part in free for module in part.modules() for p in part.parameters()
    )
    assert not model.eval().training
    x = torch.rand(3, 3, 8, 8)
    assert torch.equal(model.suffix(model.prefix(x)), model(x))
    assert not model.prefix(x).requires_grad


def test_shortcut_adds_the_input():
    model = build(config(blocks=1, downsample=0, width=4), SHAPE, 10).eval()
    without = build(config(blocks=1, downsample=0, width=4, shortcut=False), SHAPE, 10).eval()
    without.load_state_dict(model.state_dict())
    x = torch.rand(2, 4, 8, 8)
    with torch.no_grad():
        for module in (model, without):
            module.stages[1].bn2.weight.zero_()
            module.stages[1].bn2.bias.zero_()
        assert torch.equal(model.stages[1](x), x)
        assert torch.equal(without.stages[1](x), torch.zeros_like(x))


def test_he_initialisation():
    torch.manual_seed(0)
    c = config(blocks=1, width=64, downsample=0, head_depth=2, head_width=512)
    model = build(c, SHAPE, 100)
    hidden, logits = (module for module in model.head if isinstance(module, nn.Linear))
    assert model.stages[1].conv1.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert hidden.weight.std().item() == pytest.approx((2 / 64) ** 0.5, rel=0.02)
    assert logits.weight.std().item() == pytest.approx((1 / 512) ** 0.5, rel=0.02)
    assert not hidden.bias.any() and not logits.bias.any()
    torch.manual_seed(0)
    again = build(c, SHAPE, 100)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))


def test_one_image_and_one_pixel_are_refused():
    with pytest.raises(BadRequest, match="batch_size=1 with a last map of 1x1"):
        build(config(batch_size=1, blocks=3, downsample=3), SHAPE, 10)
    build(config(batch_size=1, blocks=3, downsample=3, frozen=4), SHAPE, 10)
    model = build(config(batch_size=1, blocks=2, downsample=2), SHAPE, 10)
    assert model.train()(torch.rand(1, 3, 8, 8)).isfinite().all()


@st.composite
def any_model(draw):
    """A config of any model, within what its fields allow."""
    model = draw(st.sampled_from(sorted(catalog.parts("model"))))
    possible = {
        "blocks": st.integers(1, 4),
        "kernel": st.sampled_from([1, 3, 5]),
        "width": st.integers(1, 20),
        "downsample": st.integers(0, 1),
        "padding": st.integers(0, 2),
        "shortcut": st.booleans(),
        "se": st.booleans(),
        "pool": st.sampled_from(["average", "flatten"]),
        "head_depth": st.integers(1, 3),
        "head_width": st.integers(1, 9),
        "input_size": st.sampled_from([None, 8, 33]),
    }
    values = {name: draw(possible[name]) for name in catalog.part("model", model).settings if name in possible}
    frozen = draw(st.integers(0, 5))
    try:
        return config(model=model, frozen=frozen, batch_size=draw(st.sampled_from([1, 2])), **values)
    except ValidationError:
        return config(model=model)


@settings(max_examples=150, deadline=None)
@given(
    c=any_model(),
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    channels=st.sampled_from([1, 2, 3]),
    classes=st.integers(2, 5),
)
def test_sizes_by_arithmetic_are_those_of_the_network(c, height, width, channels, classes):
    shape = (height, width, channels)
    counted = architecture.facts(c, shape, classes)
    try:
        with torch.device("meta"):
            built = facts(build(c, shape, classes), c, shape)
    except BadRequest:
        assert counted is None, "what cannot be trained is left to `build`, which says why"
    else:
        assert counted == built or (counted is None and c.batch_size == 1)
