"""Transfer: a source task's stages under a new head, frozen or not, and the cached frozen prefix."""

import numpy as np
import pytest
import torch

from resnetlab.errors import BadData, BadRequest
from resnetlab.study.trial_config import TrialConfig
from resnetlab.vision.data import Dataset
from resnetlab.vision.models import Staged
from resnetlab.vision.models.pretrained import Weights
from resnetlab.vision.training import checkpoint, loop, machine, prefix
from resnetlab.vision.training.loop import Training
from resnetlab.vision.training.optim import make_optimizer
from resnetlab.vision.training.transfer import backbone, check_source


def made(classes=4, label="class", n=176, side=8, seed=0, channels=3):
    """Noisy copies of one random picture per class; `label` numbers the same images in another way."""
    rng = np.random.default_rng(seed)
    which = np.arange(n) % 8
    images = rng.integers(0, 256, (8, side, side, channels))[which] + rng.normal(0, 30, (n, side, side, channels))
    labels = which % classes if label == "class" else which // 2
    places = {"val": np.arange(n - 80, n - 40), "test": np.arange(n - 40, n)}
    names = [f"{label}{i}" for i in range(labels.max() + 1)]
    return Dataset.from_arrays(images.clip(0, 255).astype(np.uint8), labels, names, places)


def config(**settings):
    base = {"model": "cnn-resnet", "width": 4, "batch_size": 32, "lr": 0.05, "epochs": 3}
    return TrialConfig(data={"name": "folder"}, **(base | settings))


def run(training):
    while training.epoch < training.config.epochs:
        training.run_epoch()
    return training


def curve(training):
    return [[r.train_loss, r.train_accuracy, r.val_loss, r.val_accuracy, r.lr] for r in training.history]


@pytest.fixture
def source():
    data, c = made(classes=4), config(seed=5)
    return backbone(run(Training(c, data)).state(), c, data)


@pytest.fixture(autouse=True)
def nothing_kept():
    prefix.forget()
    yield
    prefix.forget()


def test_a_target_starts_from_the_sources_stages_with_its_own_head(source):
    data = made(label="pair")
    c = config(weights=f"trial:{source.about['trial_id']}")
    target, scratch = Training(c, data, weights=source), Training(config(), data)
    for key, value in target.model.state_dict().items():
        if key.startswith("stages."):
            assert torch.equal(value, source.tensors[key]), key
        else:
            assert torch.equal(value, scratch.model.state_dict()[key]), key
    assert target.weights_hash == source.digest and scratch.weights_hash is None
    assert curve(run(target)) != curve(run(scratch))


@pytest.mark.parametrize("frozen", [0, 1, 3])
def test_only_what_is_not_frozen_changes(source, frozen):
    c = config(weights=f"file:{source.digest}", frozen=frozen)
    trained = run(Training(c, made(label="pair"), weights=source)).model.state_dict()
    for i in range(3):
        same = [torch.equal(trained[key], value) for key, value in source.tensors.items() if key[7] == str(i)]
        assert all(same) if i < frozen else not all(same)


def test_resumed_equals_run_through_without_the_weights(source):
    data, c = made(label="pair"), config(weights=f"file:{source.digest}", frozen=2, backbone_lr_ratio=0.1)
    through = run(Training(c, data, weights=source))
    half = Training(c, data, weights=source)
    half.run_epoch()
    prefix.forget()
    resumed = run(Training(c, data, state=checkpoint.load(checkpoint.save(half.state()))))
    assert curve(resumed) == curve(through)
    assert resumed.weights_hash == source.digest


@pytest.mark.parametrize(
    ("weights", "kind", "message"),
    [
        ("file:" + "0" * 32, BadData, "need weights file:000"),
        ("trial:" + "0" * 12, BadData, "need weights trial:000"),
        ("none given", BadRequest, "these weights are not here"),
    ],
)
def test_other_weights_than_the_config_names_are_refused(source, weights, kind, message):
    given = None if weights == "none given" else source
    name = f"file:{source.digest}" if given is None else weights
    with pytest.raises(kind, match=message):
        Training(config(weights=name), made(), weights=given)


def test_a_source_of_another_network_is_refused(source):
    with pytest.raises(BadData, match="of another network"):
        Training(config(width=8, weights=f"file:{source.digest}"), made(), weights=source)


def test_a_label_set_that_changed_is_named(source):
    check_source(source, made(classes=4))
    with pytest.raises(BadData, match=r"trained on 4 classes, but its data now has 3 \(1 are gone: class3\)"):
        check_source(source, made(classes=3))
    with pytest.raises(BadData, match=r"4 are gone: class0, .*; 4 are new: pair0"):
        check_source(source, made(label="pair"))
    with pytest.raises(BadData, match=r"trained on data .*, but that data is now"):
        check_source(source, made(classes=4, seed=1))


def test_learning_rates_of_stages_and_head(source):
    c = config(weights=f"file:{source.digest}", backbone_lr_ratio=0.1, schedule="cosine", optimizer="sgd", momentum=0.0)
    training = Training(c, made(), weights=source)
    head, stages = training._optimizer.param_groups
    assert (head["peak_lr"], stages["peak_lr"]) == (0.05, pytest.approx(0.005))
    assert {id(p) for p in head["params"]} == {id(p) for p in training.model.head.parameters()}
    assert {id(p) for p in stages["params"]} == {id(p) for p in training.model.stages.parameters()}
    record = training.run_epoch()
    assert record.lr == head["lr"] == pytest.approx(stages["lr"] * 10)
    one = make_optimizer(config(), training.model)
    assert len(one.param_groups) == 1


def test_slow_stages_move_less(source):
    def moved(ratio):
        c = config(weights=f"file:{source.digest}", backbone_lr_ratio=ratio, epochs=1)
        training = Training(c, made(label="pair"), weights=source)
        training.run_epoch()
        state = training.model.state_dict()
        return sum((state[key] - source.tensors[key]).norm() for key in state if key.endswith("conv1.weight"))

    assert moved(0.01) < 0.1 * moved(1.0)


def test_a_fraction_of_the_training_images():
    data = made()
    rows = {f: Training(config(data_fraction=f, batch_size=8), data)._rows for f in (1.0, 0.5, 0.1)}
    assert [len(r["train"]) for r in rows.values()] == [96, 48, 10]
    for part in rows.values():
        assert set(part["train"].tolist()) <= set(rows[1.0]["train"].tolist())
        assert torch.equal(part["val"], rows[1.0]["val"]) and torch.equal(part["test"], rows[1.0]["test"])
        counts = np.bincount(data.labels[part["train"].numpy()])
        assert counts.max() - counts.min() <= 1
    other = Training(config(data_fraction=0.5, batch_size=8, seed=9), data)._rows["train"]
    assert torch.equal(other, rows[0.5]["train"]), "every seed must see the same part"
    with pytest.raises(BadRequest, match="batch_size=32"):
        Training(config(data_fraction=0.1), data)


FROZEN = [
    {"frozen": 1},
    {"frozen": 3, "dropout": 0.3},
    {"frozen": 2, "optimizer": "adam", "lr": 1e-3, "backbone_lr_ratio": 0.5},
    {"model": "resnet", "blocks": 2, "downsample": 2, "frozen": 3},
    {"model": "resnet", "blocks": 2, "downsample": 2, "frozen": 2, "dropout": 0.2, "se": True},
    {"model": "mlp", "head_depth": 3, "head_width": 32, "frozen": 1},
    {"model": "conv2", "frozen": 2},
    {"model": "resnet18", "frozen": 5, "input_size": 16},
]


@pytest.mark.parametrize("settings", FROZEN, ids=lambda s: "-".join(map(str, s.values())))
def test_a_prefix_that_is_run_once_gives_the_same_training(settings):
    data, c = made(), config(**({"lr": 0.005} | settings))
    cached, every = run(Training(c, data)), run(Training(c, data, cache_prefix=False))
    assert (cached.prefix_cached, every.prefix_cached) == (True, False)
    np.testing.assert_allclose(curve(cached), curve(every), rtol=2e-4, atol=2e-5)
    for key, value in every.model.state_dict().items():
        torch.testing.assert_close(cached.model.state_dict()[key], value, rtol=2e-3, atol=2e-4)
    one, other = cached.test(), every.test()
    assert one.accuracy == other.accuracy and one.loss == pytest.approx(other.loss, rel=1e-3)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"frozen": 0}, False),
        ({"frozen": 2, "flip": True}, False),
        ({"frozen": 2, "flip_vertical": True}, False),
        ({"frozen": 2, "crop": 1}, False),
        ({"frozen": 2, "rotation": 5.0}, False),
        ({"frozen": 2}, True),
    ],
)
def test_only_what_augmentation_leaves_alone_is_run_once(settings, expected):
    training = Training(config(**settings), made())
    training.run_epoch()
    assert training.prefix_cached is expected


def test_what_the_prefix_took_is_on_record_for_every_trial_that_uses_it():
    data = made()
    first, second, every = (Training(config(frozen=3, **more), data) for more in ({}, {"lr": 0.01}, {"flip": True}))
    for training in (first, second, every):
        training.run_epoch()
    assert first.prefix_seconds > 0 and second.prefix_seconds == first.prefix_seconds
    assert first.history[0].train_seconds > first.prefix_seconds
    assert every.prefix_seconds == 0


def test_a_gpu_evaluates_fewer_enlarged_images_at_a_time():
    shape = (1000, 32, 32, 3)
    sizes = {size: loop._seen(shape, config(model="resnet18", input_size=size)) for size in (None, 224)}
    assert sizes == {None: shape, 224: (1000, 224, 224, 3)}
    gpu = torch.device("cuda")
    assert machine.evaluation_batch(gpu, sizes[None]) == 1024 and machine.evaluation_batch(gpu, sizes[224]) == 32


def test_normalisation():
    data, images = made(), torch.from_numpy(made().images[:5])
    plain = images.permute(0, 3, 1, 2) / 255
    mean, std = (torch.from_numpy(values)[:, None, None] for values in data.statistics(0))
    imagenet = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    expected = {"train": (plain - mean) / std, "half": 2 * plain - 1, "unit": plain,
                "imagenet": (plain - imagenet[0]) / imagenet[1]}  # fmt: skip
    for name, value in expected.items():
        torch.testing.assert_close(Training(config(normalise=name), data)._augment.plain(images), value)
    grey = Training(config(normalise="imagenet"), made(channels=1))._augment.plain(images[..., :1])
    torch.testing.assert_close(grey, (plain[:, :1] - 0.449) / 0.226)


def test_without_memory_it_is_run_every_time(monkeypatch):
    c, data = config(frozen=3), made()
    cached = run(Training(c, data))
    prefix.forget()
    monkeypatch.setattr(machine, "spare_memory", lambda device: 1000)
    every = run(Training(c, data))
    assert cached.prefix_cached and every.prefix_cached is False
    np.testing.assert_allclose(curve(cached), curve(every), rtol=2e-4, atol=2e-5)


def test_trials_share_a_prefix_only_where_it_is_the_same(monkeypatch):
    """Counted by how often the prefix is run; each of the others has something that its output depends on."""
    ran = []
    stored = prefix._stored
    monkeypatch.setattr(prefix, "_stored", lambda output: ran.append(1) or stored(output))

    def runs(data=None, **settings):
        ran.clear()
        Training(config(**({"frozen": 3, "epochs": 1} | settings)), data or made()).run_epoch()
        return bool(ran)

    assert runs()
    assert not runs() and not runs(lr=0.2) and not runs(dropout=0.5) and not runs(optimizer="adam")
    others = [
        {"seed": 1}, {"normalise": "unit"}, {"frozen": 2}, {"data_fraction": 0.5}, {"data": made(seed=2)},
        {"model": "cnn"}, {"split_seed": 1},
    ]  # fmt: skip
    for other in others:
        assert runs(**other) and runs(), other  # the base again, which the other replaced
    base = {"model": "resnet18", "frozen": 1, "input_size": 16}
    assert runs(**base) and runs(**base, resize="nearest") and runs(**base, seed=0)
    assert runs(**(base | {"input_size": 24})) and not runs(**(base | {"input_size": 24}))


@pytest.mark.parametrize("cached", [True, False])
def test_a_cached_prefix_is_not_run_again_in_later_epochs(monkeypatch, cached):
    """What that saves is measured by benchmarks/frozen.py."""
    ran = []
    prefix_of = Staged.prefix
    monkeypatch.setattr(Staged, "prefix", lambda model, images: ran.append(1) or prefix_of(model, images))
    training = Training(config(frozen=3, epochs=2), made(), cache_prefix=cached)
    training.run_epoch()
    assert ran
    ran.clear()
    training.run_epoch()
    assert bool(ran) is not cached


def test_weights_of_a_checkpoint_are_those_of_its_training(source):
    raw = source.pack()
    assert Weights.unpack(raw, "kept").digest == source.digest
    assert source.about["classes"] == [f"class{i}" for i in range(4)]
    assert source.about["epochs"] == 3 and source.about["model"] == "cnn-resnet"
