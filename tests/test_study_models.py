"""The networks of the published studies: parameter counts as printed, and which stages can be frozen."""

import subprocess
import sys

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from resnetlab.errors import BadRequest
from resnetlab.study import catalog
from resnetlab.study.trial_config import TrialConfig
from resnetlab.vision.models import build, facts
from resnetlab.vision.models.cost import keras_count

CIFAR, GLYPH = (32, 32, 3), (20, 20, 1)
RESNET50 = {"model": "resnet50", "head_depth": 3, "input_size": 224, "resize": "nearest"}


def config(**settings):
    return TrialConfig(data={"name": "cifar10"}, **settings)


def on_meta(settings, shape=CIFAR, classes=10):
    with torch.device("meta"):
        return build(config(**settings), shape, classes)


@pytest.mark.parametrize(
    ("settings", "shape", "classes", "parameters", "trainable"),
    [
        ({"model": "cnn"}, CIFAR, 10, 558_974, 558_974),
        ({"model": "cnn-resnet"}, CIFAR, 10, 645_150, 645_150),
        ({"model": "cnn"}, GLYPH, 153, 271_033, 271_033),
        ({"model": "cnn"}, GLYPH, 12_720, 1_339_228, 1_339_228),
        ({"model": "cnn", "frozen": 3}, GLYPH, 12_720, 1_339_228, 1_283_484),
        ({"model": "mlp"}, CIFAR, 10, 12_332_010, 12_332_010),
        ({"model": "conv2"}, CIFAR, 10, 170_906, 170_906),
        ({"model": "resnet18"}, CIFAR, 10, 11_181_642, 11_181_642),
        ({"model": "resnet18", "input_size": 224}, CIFAR, 10, 11_181_642, 11_181_642),
        ({"model": "resnet34"}, CIFAR, 1000, 21_797_672, 21_797_672),
        ({"model": "scratch-cnn"}, CIFAR, 10, 1_250_858, 1_250_858),
        (RESNET50, CIFAR, 10, 26_136_138, 26_136_138),
        (RESNET50 | {"frozen": 5}, CIFAR, 10, 26_136_138, 2_628_106),
        ({"model": "flat-resnet"}, CIFAR, 100, 8_914_580, 8_914_580),
        ({"model": "flat-resnet", "head_depth": 1}, CIFAR, 100, 1_537_972, 1_537_972),
        ({"model": "flat-resnet", "head_depth": 3}, CIFAR, 100, 18_290_252, 18_290_252),
        ({"model": "flat-resnet", "kernel": 5}, CIFAR, 100, 1_724_052, 1_724_052),
        ({"model": "flat-resnet", "kernel": 5, "padding": 2, "head_depth": 1}, CIFAR, 100, 1_701_812, 1_701_812),
        ({"model": "flat-resnet", "blocks": 2}, CIFAR, 100, 17_593_492, 17_593_492),
        ({"model": "flat-resnet", "kernel": 5, "padding": 2}, CIFAR, 100, 9_078_420, 9_078_420),
    ],
)
def test_parameters(settings, shape, classes, parameters, trainable):
    found = facts(on_meta(settings, shape, classes), config(**settings), shape)
    assert (found.parameters, found.trainable) == (parameters, trainable)


def test_the_two_readings_of_the_font_studies_trainable_part():
    """1,283,484 is the head alone: what is left when the three convolutions are frozen."""
    model = on_meta({"model": "cnn", "frozen": 3}, GLYPH, 12_720)
    assert sum(p.numel() for p in model.head.parameters()) == 1_283_484


def test_keras_counts_of_resnet50_and_why_they_differ():
    counted = keras_count(on_meta(RESNET50))
    assert (counted.total, counted.trainable) == (26_215_818, 26_162_698)
    assert (counted.biases, counted.statistics) == (26_560, 53_120)
    for part in ("26,215,818", "26,136,138", "26,560", "53,120", "bias", "running means"):
        assert part in counted.reason


ALL = [
    {"model": "cnn", "width": 4},
    {"model": "cnn-resnet", "width": 4, "se": True},
    {"model": "mlp", "head_depth": 3, "head_width": 16},
    {"model": "conv2"},
    {"model": "scratch-cnn"},
    {"model": "flat-resnet", "blocks": 2},
    {"model": "flat-resnet", "kernel": 5, "head_depth": 1},
    {"model": "resnet18"},
    {"model": "resnet18", "input_size": 40, "resize": "nearest", "head_depth": 3, "dropout": 0.1},
    {"model": "resnet", "blocks": 2, "width": 4},
]


def name(settings):
    return "-".join(map(str, settings.values()))


@pytest.mark.parametrize("settings", ALL, ids=name)
def test_every_stage_can_be_frozen(settings):
    shape = (24, 24, 1)
    stages = config(**settings).stages
    x = torch.rand(3, 1, 24, 24)
    for frozen in sorted({0, 1, stages}):
        torch.manual_seed(frozen)
        model = build(config(**settings, frozen=frozen), shape, 7).train()
        assert len(model.stages) == stages
        before = {key: value.clone() for key, value in model.state_dict().items()}
        torch.manual_seed(0)
        logits = model(x)
        torch.manual_seed(0)
        torch.testing.assert_close(logits, model.suffix(model.prefix(x)))
        assert logits.shape == (3, 7)
        logits.square().sum().backward()
        torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1).step()
        after = model.state_dict()
        kept = tuple(f"stages.{i}." for i in range(frozen))
        for key, value in before.items():
            if key.startswith(kept):
                assert torch.equal(after[key], value), key
        assert any(not torch.equal(after[k], v) for k, v in before.items() if not k.startswith(kept))
        for i in range(frozen, stages):  # whatever is not frozen learns
            learning = [f"stages.{i}.{n}" for n, _ in model.stages[i].named_parameters()]
            assert any(not torch.equal(after[key], before[key]) for key in learning), i


def test_a_wholly_frozen_prefix_ends_after_pooling():
    model = build(config(model="resnet18", frozen=5, dropout=0.5, head_depth=2), CIFAR, 10).train()
    assert model.prefix(torch.rand(2, 3, 32, 32)).shape == (2, 512)
    assert build(config(model="resnet18", frozen=4), CIFAR, 10).prefix(torch.rand(2, 3, 32, 32)).shape == (2, 256, 2, 2)


def test_kernel_5_with_padding_1_adds_the_centre():
    model = build(config(model="flat-resnet", kernel=5), CIFAR, 10).eval()
    block = model.stages[1]
    x = torch.rand(2, 16, 30, 30)
    with torch.no_grad():
        block.bn2.weight.zero_()
        block.bn2.bias.zero_()
        assert torch.equal(block(x), x[:, :, 2:-2, 2:-2])


def test_nearest_enlargement_repeats_pixels_and_grey_becomes_three_channels():
    stem = build(config(model="resnet18", input_size=224, resize="nearest"), CIFAR, 10).stages[0]
    x = torch.rand(1, 1, 32, 32)
    wide = stem.input(x)
    assert torch.equal(wide, x.expand(-1, 3, -1, -1).repeat_interleave(7, 2).repeat_interleave(7, 3))
    smooth = build(config(model="resnet18", input_size=224), CIFAR, 10).stages[0].input(x)
    expected = nn.functional.interpolate(x.expand(-1, 3, -1, -1), (224, 224), mode="bilinear", align_corners=False)
    assert torch.equal(smooth, expected)


def test_dropout_of_the_scratch_cnn():
    rates = [m.p for m in on_meta({"model": "scratch-cnn"}).modules() if isinstance(m, nn.Dropout)]
    assert rates == [0.25, 0.25, 0.5]
    assert not any(isinstance(m, nn.Dropout) for m in on_meta({"model": "scratch-cnn", "dropout": 0.0}).modules())


@pytest.mark.parametrize("model", catalog.parts("model"))
def test_settings_that_a_model_does_not_read_change_nothing(model):
    plain = config(model=model)
    everything = {
        "blocks": 7, "kernel": 7, "padding": 2, "width": 3, "downsample": 1, "shortcut": False, "se": True,
        "pool": "flatten", "head_depth": 4, "head_width": 5, "dropout": 0.1, "input_size": 64, "resize": "nearest",
    }  # fmt: skip
    unread = {key: value for key, value in everything.items() if key not in catalog.part("model", model).defaults}
    assert config(model=model, **unread).trial_id == plain.trial_id
    assert all(getattr(plain, key) is None for key in unread)
    for key, default in catalog.part("model", model).defaults.items():
        assert getattr(plain, key) == default


def test_resize_needs_a_size_and_lr_ratio_needs_a_stage_that_learns():
    assert config(model="resnet18", resize="nearest").trial_id == config(model="resnet18").trial_id
    assert config(model="resnet18", input_size=64).resize == "bilinear"
    one = {"model": "cnn", "frozen": 3}
    assert config(**one, backbone_lr_ratio=0.1).trial_id == config(**one).trial_id
    assert config(model="cnn", frozen=2, backbone_lr_ratio=0.1).backbone_lr_ratio == 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "flat-resnet", "blocks": 5}, "blocks <= 4"),
        ({"model": "flat-resnet", "padding": 2}, "padding <= kernel // 2"),
        ({"model": "flat-resnet", "head_depth": 4}, "head_depth <= 3"),
        ({"model": "resnet50", "head_depth": 4}, "head_depth <= 3"),
        ({"model": "scratch-cnn", "dropout": 0.5}, "dropout < 0.5"),
        ({"model": "cnn", "frozen": 4}, "frozen <= 3"),
        ({"model": "cnn", "weights": "IMAGENET1K_V1"}, "model resnet18 or resnet34 or resnet50"),
        ({"model": "cnn", "weights": "my/weights.pt"}, "weights"),
        ({"model": "vgg16"}, "model"),
        ({"model": "resnet", "blocks": "many"}, "blocks"),
    ],
)
def test_infeasible_configs(settings, message):
    with pytest.raises(ValidationError, match=message):
        config(**settings)


@pytest.mark.parametrize(
    ("settings", "shape", "message"),
    [
        ({"model": "cnn"}, (3, 9, 1), "leaves no pixel of images of 3x9"),
        ({"model": "scratch-cnn"}, (8, 8, 1), "leaves no pixel"),
        ({"model": "flat-resnet", "kernel": 5}, (20, 20, 1), "padding=2, fewer blocks, or larger images"),
        ({"model": "resnet18"}, (32, 32, 2), "1 or 3 channels, these have 2"),
        ({"model": "resnet18", "input_size": 24}, CIFAR, "32 or more"),
        ({"model": "resnet18", "batch_size": 1}, CIFAR, "batch_size=1 with a last map of 1x1"),
    ],
)
def test_images_that_do_not_suit(settings, shape, message):
    with pytest.raises(BadRequest, match=message):
        build(config(**settings), shape, 10)


def test_batch_of_one_where_it_can_be_trained():
    build(config(model="resnet18", batch_size=1, frozen=5), CIFAR, 10)
    build(config(model="cnn", batch_size=1), CIFAR, 10)


def test_torchvision_is_loaded_only_for_its_own_networks():
    code = (
        "import sys, torch\n"
        "from resnetlab.study import catalog\n"
        "from resnetlab.study.trial_config import TrialConfig\n"
        "from resnetlab.vision.models import build\n"
        "import resnetlab.vision.training.loop\n"
        "make = lambda **s: build(TrialConfig(data={'name': 'cifar10'}, **s), (32, 32, 3), 10)\n"
        "with torch.device('meta'):\n"
        "    for model in (name for name in catalog.parts('model') if not catalog.network(name).weights):\n"
        "        make(model=model)\n"
        "assert 'torchvision' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
