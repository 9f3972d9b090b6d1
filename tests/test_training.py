import io
import json
import math
import pickle
import subprocess
import sys
from functools import partial
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch.nn import functional as F

from resnetlab.errors import BadData, BadRequest
from resnetlab.study.data_config import DataConfig
from resnetlab.study.seeding import stream
from resnetlab.study.trial_config import TrialConfig
from resnetlab.vision.data import Dataset, prepare
from resnetlab.vision.models import build
from resnetlab.vision.training import checkpoint, machine
from resnetlab.vision.training.checkpoint import CheckpointDamaged
from resnetlab.vision.training.loop import Diverged, Training
from resnetlab.vision.training.optim import make_optimizer, step_of
from resnetlab.vision.training.optim import schedule as schedule_of

CUDA = pytest.mark.gpu


def made(train=96, held=40, classes=4, noise=40.0, seed=0, test_seed=0):
    """Noisy copies of one random 8x8 picture per class, with the splits fixed: train, val, test in this order."""
    rng = np.random.default_rng(seed)
    labels = np.arange(train + 2 * held) % classes
    pictures = rng.integers(0, 256, (classes, 8, 8, 3))
    images = pictures[labels] + rng.normal(0, noise, (len(labels), 8, 8, 3))
    images[-held:] += np.random.default_rng(test_seed).normal(0, noise, images[-held:].shape)
    places = {"val": np.arange(train, train + held), "test": np.arange(train + held, train + 2 * held)}
    return Dataset.from_arrays(images.clip(0, 255).astype(np.uint8), labels, [str(i) for i in range(classes)], places)


def config(**settings):
    base = {"blocks": 1, "width": 4, "downsample": 1, "batch_size": 32, "lr": 0.1, "epochs": 4}
    return TrialConfig(data={"name": "folder"}, **(base | settings))


def metrics(training):
    """What must be equal to the last bit in two runs of one trial."""
    clocks = {"train_seconds", "eval_seconds", "images_per_second", "peak_memory"}
    return [{k: v for k, v in record.as_row().items() if k not in clocks} for record in training.history]


def same_weights(one, other):
    one, other = one.model.state_dict(), other.model.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def run(training, epochs=None):
    for _ in range(training.config.epochs - training.epoch if epochs is None else epochs):
        training.run_epoch()
    return training


BUSY = {"dropout": 0.3, "crop": 1, "flip": True, "rotation": 15.0, "label_smoothing": 0.1, "se": True}
OPTIMIZERS = [
    {"optimizer": "sgd", "nesterov": True, "schedule": "one-cycle", **BUSY},
    {"optimizer": "adam", "lr": 1e-2, "schedule": "cosine", **BUSY},
    {"optimizer": "adamw", "lr": 1e-2, "weight_decay": 0.05, "schedule": "step", **BUSY},
    {"optimizer": "rmsprop", "lr": 1e-3, "schedule": "constant-exponential", **BUSY},
]
by_optimizer = pytest.mark.parametrize("settings", OPTIMIZERS, ids=lambda settings: settings["optimizer"])


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=CUDA)])
def test_loss_goes_down(device, tmp_path):
    """791 rendered characters of 47 classes: chance is 2%."""
    data = prepare(DataConfig(name="glyphs", variants=1), tmp_path)
    c = config(blocks=2, width=8, downsample=2, pool="flatten", epochs=8, schedule="one-cycle")
    training = run(Training(c, data, device=device))
    first, last = training.history[0], training.history[-1]
    assert last.train_loss < 0.2 * first.train_loss and last.val_loss < first.val_loss
    assert last.val_accuracy > 0.25 and training.test().accuracy > 0.25
    assert [record.epoch for record in training.history] == list(range(1, 9))
    assert all(record.peak_memory > 0 and record.images_per_second > 0 for record in training.history)


def test_an_epoch_is_what_a_plain_loop_does():
    """Against a loop written out here: order, normalisation, smoothing, schedule, decay, partial batch, all of it."""
    data, c = made(train=90), config(epochs=2, schedule="cosine", label_smoothing=0.1, weight_decay=1e-2)
    training = run(Training(c, data))
    with machine.seeded(stream(c.seed, "init"), torch.device("cpu")):
        model = build(c, data.shape, 4).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=c.lr, momentum=0.9, weight_decay=1e-2, fused=True)
    mean, std = (torch.from_numpy(values) for values in data.statistics(c.split_seed))
    images = ((torch.from_numpy(data.images) / 255 - mean) / std).permute(0, 3, 1, 2)
    labels, train = torch.from_numpy(data.labels), torch.from_numpy(data.split("train", c.split_seed))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6)
    for epoch in (1, 2):
        order = train[torch.randperm(90, generator=torch.Generator().manual_seed(stream(c.seed, "order", epoch)))]
        losses, correct = [], 0
        for rows in order.split(32):
            logits = model(images[rows])
            loss = F.cross_entropy(logits, labels[rows], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            lr = scheduler.get_last_lr()[0]
            optimizer.step()
            scheduler.step()
            losses += [loss.item()] * len(rows)
            correct += (logits.argmax(1) == labels[rows]).sum().item()
        record = training.history[epoch - 1]
        assert record.train_loss == pytest.approx(np.mean(losses), rel=1e-4)
        assert record.train_accuracy == correct / 90
        assert record.lr == pytest.approx(lr, rel=1e-9)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(training.model.state_dict()[key], value, rtol=1e-3, atol=1e-4)


@by_optimizer
def test_a_step_without_what_torch_wraps_around_it_is_torchs(settings):
    data, c = made(), config(**settings)
    optimizers = []
    for _ in range(2):
        with machine.seeded(0, torch.device("cpu")):
            optimizers.append(make_optimizer(c, build(c, data.shape, 4)))
    for optimizer, update in zip(optimizers, (optimizers[0].step, step_of(optimizers[1])), strict=True):
        generator = torch.Generator().manual_seed(1)
        for _ in range(3):
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = torch.randn(parameter.shape, generator=generator)
            update()
    ours, theirs = ([p for group in o.param_groups for p in group["params"]] for o in optimizers)
    assert all(torch.equal(one, other) and one.requires_grad for one, other in zip(ours, theirs, strict=True))


@by_optimizer
def test_a_repeat_is_identical_whatever_ran_before(settings):
    data, c = made(), config(epochs=2, **settings)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = run(Training(c, data))
    assert torch.equal(torch.get_rng_state(), state), "the global generator was moved"
    torch.manual_seed(2)
    other = run(Training(config(epochs=2, seed=1, **settings), data))
    torch.set_num_threads(2)
    torch.rand(3)
    last = run(Training(c, data))
    assert metrics(first) == metrics(last) and same_weights(first, last)
    assert metrics(first) != metrics(other)


@by_optimizer
def test_resumed_equals_run_through(settings):
    data, c = made(), config(epochs=3, frozen=1, **settings)
    through = run(Training(c, data))
    begun = run(Training(c, data), epochs=1)
    state = begun.state()
    raw = checkpoint.save(state)
    run(begun)  # a state is a copy: going on does not change it
    assert checkpoint.save(state) == raw
    for saved in (checkpoint.load(raw), state):
        resumed = Training(c, data, state=saved)
        assert resumed.epoch == 1
        assert metrics(run(resumed)) == metrics(through) and same_weights(resumed, through)
    assert checkpoint.save(state) == raw


@CUDA
def test_resumed_on_a_gpu_and_on_a_cpu():
    data, c = made(), config(epochs=3)
    state = checkpoint.load(checkpoint.save(run(Training(c, data, device="cuda"), epochs=1).state()))
    for device in ("cuda", "cpu"):
        resumed = run(Training(c, data, device=device, state=state))
        assert [record.epoch for record in resumed.history] == [1, 2, 3]


@pytest.mark.parametrize("settings", [{}, {"dropout": 0.5}, {"rotation": 90.0}], ids=["none", "dropout", "augment"])
def test_each_epoch_has_its_own_draws(settings):
    """One image over and over, and weights that stay: the loss moves if and only if the draws do."""
    images = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8), 60, axis=0)
    data = Dataset.from_arrays(
        images, np.zeros(60, np.int64), ["a", "b"], {"val": np.arange(9), "test": np.arange(9, 20)}
    )
    c = config(batch_size=40, epochs=2, lr=1e-30, pool="flatten", **settings)
    one, other = (record.train_loss for record in run(Training(c, data)).history)
    assert (one == pytest.approx(other, rel=1e-6)) == (not settings)


def test_epochs_draw_differently():
    training = Training(config(), made())
    assert not torch.equal(training._order(1), training._order(2))
    assert torch.equal(training._order(1).sort().values, training._rows["train"])


@pytest.mark.parametrize("frozen", [1, 2])
def test_frozen_stages_do_not_change(frozen):
    training = Training(config(frozen=frozen, weight_decay=0.1), made())
    before = {key: value.clone() for key, value in training.model.state_dict().items()}
    run(training, epochs=2)
    for key, value in training.model.state_dict().items():
        held = any(key.startswith(f"stages.{stage}.") for stage in range(frozen))
        assert torch.equal(value, before[key]) == held, key
    assert training.facts.trainable < training.facts.parameters


@pytest.mark.parametrize(("train", "steps"), [(96, 3), (97, 3), (98, 4), (32, 1)])
def test_only_a_last_batch_of_one_image_is_left_out(train, steps):
    training = Training(config(), made(train=train))
    training.run_epoch()
    assert training.model.stages[0][1].num_batches_tracked.item() == steps
    assert len(training._order(1)) == (96 if train == 97 else train)


def test_a_batch_of_one_image():
    training = Training(config(batch_size=1, lr=0.01), made(train=16))
    training.run_epoch()
    assert training.model.stages[0][1].num_batches_tracked.item() == 16


def test_a_batch_larger_than_the_training_split():
    with pytest.raises(BadRequest, match=r"batch_size=97 .*\(allowed: 1 to 96\)"):
        Training(config(batch_size=97), made())


def test_no_more_epochs_than_the_budget():
    with pytest.raises(RuntimeError, match="all its 1 epochs"):
        run(Training(config(epochs=1), made()), epochs=2)


def test_threads_are_the_trials_share():
    training = Training(config(), made(), threads=1)
    torch.set_num_threads(2)
    training.run_epoch()
    assert torch.get_num_threads() == 1


def test_diverged():
    c = config(lr=100.0, momentum=0.99, shortcut=False, blocks=4)
    with pytest.raises(Diverged, match=rf"^trial {c.trial_id}, epoch \d: .*loss is nan \(lr=100, optimizer=sgd\)$"):
        training = Training(c, made())
        training.model.head[-1].weight.data.mul_(1e30)
        run(training)


def test_diverged_in_the_last_step(monkeypatch):
    training, steps = Training(config(), made()), []

    def last_goes_wrong(optimizer):
        def update():
            step_of(optimizer)()
            steps.append(optimizer)
            if len(steps) == 3:
                training.model.head[-1].weight.data.fill_(math.inf)

        return update

    monkeypatch.setattr("resnetlab.vision.training.step.step_of", last_goes_wrong)
    with pytest.raises(Diverged, match="epoch 1: validation loss is"):
        training.run_epoch()
    assert training.epoch == 0


def test_test_split():
    data = made(noise=80.0)
    training = run(Training(config(), data), epochs=1)
    result = training.test()
    np.testing.assert_array_equal(result.image, data.split("test", 0))
    np.testing.assert_array_equal(result.labels, data.labels[result.image])
    mean, std = (torch.from_numpy(values) for values in data.statistics(0))
    images = ((torch.from_numpy(data.images[result.image]) / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.no_grad():
        logits = training.model.eval()(images)
    np.testing.assert_array_equal(result.predictions, logits.argmax(1).numpy())
    assert result.accuracy == (result.predictions == result.labels).mean() and 0 < result.accuracy < 1
    assert result.loss == pytest.approx(F.cross_entropy(logits, torch.from_numpy(result.labels)).item(), rel=1e-4)


def test_search_never_sees_the_test_split():
    one, other = made(test_seed=1), made(test_seed=2)
    assert not np.array_equal(one.images, other.images)
    assert metrics(run(Training(config(), one))) == metrics(run(Training(config(), other)))


# Optimizers and schedules


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"optimizer": "sgd", "momentum": 0.5, "nesterov": True}, {"momentum": 0.5, "nesterov": True}),
        ({"optimizer": "adam", "beta2": 0.95}, {"betas": (0.9, 0.95), "decoupled_weight_decay": False}),
        ({"optimizer": "adamw"}, {"betas": (0.9, 0.999), "decoupled_weight_decay": True}),
        ({"optimizer": "rmsprop", "momentum": 0.3}, {"momentum": 0.3}),
    ],
)
def test_optimizer_settings(settings, expected):
    c = config(weight_decay=0.01, frozen=1, **settings)
    model = build(c, (8, 8, 3), 4)
    (group,) = make_optimizer(c, model).param_groups
    assert expected | {"lr": 0.1, "weight_decay": 0.01} == {
        key: group[key] for key in [*expected, "lr", "weight_decay"]
    }
    assert {id(p) for p in group["params"]} == {id(p) for p in model.parameters() if p.requires_grad}


SCHEDULES = {
    "constant": (1.0, 1.0),
    "cosine": (1.0, 0.0),
    "one-cycle": (0.04, 4e-6),
    "step": (1.0, 0.01),
    "constant-exponential": (1.0, 0.01),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedule_ends_and_shape(schedule):
    c = config(schedule=schedule)
    values = [schedule_of(c)(i / 1000) for i in range(1001)]
    assert (values[0], values[-1]) == pytest.approx(SCHEDULES[schedule], abs=1e-12)
    assert max(values) == pytest.approx(1.0) and min(values) >= 0
    rising = [after > before for before, after in pairwise(values)]
    assert sum(rising) == (300 if schedule == "one-cycle" else 0)
    assert any(rising[300:]) is False


def test_schedules_against_torch():
    c = config(schedule="one-cycle", warmup_part=0.3)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=101, pct_start=0.31)
    # torch's peak is at step pct_start * total - 1 = 30.31 of 100; ours is at the same place here.
    c = c.model_copy(update={"warmup_part": (0.31 * 101 - 1) / 100})
    for step in range(101):
        assert schedule_of(c)(step / 100) == pytest.approx(theirs.get_last_lr()[0], rel=1e-6)
        optimizer.step()
        if step < 100:
            theirs.step()


def test_step_schedule_drops_where_it_says():
    c = config(schedule="step", step_at=0.1, step_factor=0.5)
    assert [schedule_of(c)(i / 10) for i in range(10)] == [0.5**i for i in range(10)]
    with pytest.raises(ValueError, match="greater than 0"):
        config(schedule="step", step_at=0.0)


def test_constant_exponential_halves_of_the_run():
    c = config(schedule="constant-exponential", constant_part=0.5)
    assert schedule_of(c)(0.5) == 1.0
    assert schedule_of(c)(0.75) == pytest.approx(0.1)


def test_one_cycle_without_warmup_starts_at_the_peak():
    assert schedule_of(config(schedule="one-cycle", warmup_part=0.0))(0.0) == 1.0


# Checkpoints


@pytest.fixture(scope="module")
def raw():
    return checkpoint.save(run(Training(config(), made()), epochs=1).state())


@hypothesis_settings(max_examples=40)
@given(st.data())
def test_damaged_bytes_are_refused(raw, data):
    place = data.draw(st.integers(0, len(raw) - 1))
    if data.draw(st.booleans()):
        damaged = raw[:place]
    else:
        damaged = bytearray(raw)
        damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(CheckpointDamaged):
        checkpoint.load(bytes(damaged))


class Evil:
    def __reduce__(self):
        return exec, ("import builtins; builtins.resnetlab_evil = True",)


def wrapped(body):
    return checkpoint.MAGIC + sha256(body).digest() + body


def torch_bytes(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("wrap", [bytes, wrapped], ids=["bare", "with-hash"])
@pytest.mark.parametrize("make", [partial(pickle.dumps, protocol=2), torch_bytes], ids=["pickle", "torch"])
def test_code_is_never_run(make, wrap):
    with pytest.raises(CheckpointDamaged):
        checkpoint.load(wrap(make({"model": Evil()})))
    import builtins

    assert not hasattr(builtins, "resnetlab_evil")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a checkpoint of resnetlab"),
        (torch_bytes({"a": 1}), "not a checkpoint of resnetlab"),
        (b"resnetlab checkpoint 2\n" + bytes(64), "version '2' .this program reads 1"),
        (wrapped(b""), "cannot be read"),
        (wrapped(torch_bytes([1])), "holds a list"),
    ],
)
def test_foreign_bytes(content, message):
    with pytest.raises(CheckpointDamaged, match=message):
        checkpoint.load(content)


def test_states_that_do_not_belong(raw):
    state = checkpoint.load(raw)
    with pytest.raises(BadRequest, match="not of trial"):
        Training(config(lr=0.2), made(), state=state)
    with pytest.raises(BadData, match="but the data is now"):
        Training(config(), made(seed=1), state=state)
    for broken in (
        {},
        {key: value for key, value in state.items() if key != "optimizer"},
        state | {"history": [{"epoch": 1}]},
        state | {"model": {}},
        state | {"model": state["model"] | {"stages.0.0.weight": torch.zeros(1)}},
        state | {"optimizer": 3},
    ):
        with pytest.raises(CheckpointDamaged, match="does not fit"):
            Training(config(), made(), state=broken)


# The process


def test_a_fresh_process_agrees_and_loads_nothing_it_does_not_need():
    code = (
        "import json, sys; sys.path.insert(0, 'tests')\n"
        "from test_training import *\n"
        "first = [run(Training(config(**settings), made()), epochs=2) for settings in OPTIMIZERS][0]\n"
        "first.state(), Training(first.config, made(), state=first.state())\n"
        "heavy = 'torchvision', 'ray', 'optuna', 'pandas', 'matplotlib', 'torch._dynamo', 'sympy', 'triton'\n"
        "print(json.dumps([metrics(first), [name for name in heavy if name in sys.modules]]))"
    )
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    found, loaded = json.loads(done.stdout)
    assert found == metrics(run(Training(config(**OPTIMIZERS[0]), made()), epochs=2))
    assert not loaded  # the last three are torch's compiler


def test_a_product_does_not_depend_on_where_its_result_lies():
    """In a fresh process, as MKL reads its setting once; without it three results of this are found on some CPUs."""
    code = """
import resnetlab.vision.training, torch
torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
one, other = torch.randn(47, 64, generator=generator), torch.randn(64, 8, generator=generator)
found = set()
for shift in range(16):
    place = torch.empty(47 * 8 + shift)[shift:].view(47, 8)
    found.add(torch.mm(one, other, out=place).numpy().tobytes())
print(len(found))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "1", done.stderr


# Classes of unequal size


def uneven(**settings):
    """A trial on 60, 24 and 12 training images of three classes."""
    rng = np.random.default_rng(3)
    labels = np.concatenate([np.repeat([0, 1, 2], [60, 24, 12]), np.arange(80) % 3])
    images = rng.integers(0, 256, (len(labels), 8, 8, 3)).astype(np.uint8)
    places = {"val": np.arange(96, 136), "test": np.arange(136, 176)}
    return Training(config(**settings), Dataset.from_arrays(images, labels, list("abc"), places))


def test_class_weights_make_each_class_count_the_same_in_the_loss():
    training = uneven(class_weights="balanced", batch_size=96, lr=1e-9, epochs=1)
    record = training.run_epoch()
    rows = training._rows["train"]
    logits = training.model.train()(training._augment.plain(training._images[rows]))
    each = F.cross_entropy(logits, training._labels[rows], reduction="none").detach()
    mean = np.mean([each[training._labels[rows] == label].mean().item() for label in range(3)])
    assert record.train_loss == pytest.approx(mean, rel=1e-4)
    plain = uneven(batch_size=96, lr=1e-9, epochs=1).run_epoch()
    assert plain.train_loss == pytest.approx(each.mean().item(), rel=1e-4) and plain.train_loss != record.train_loss
    assert plain.val_loss == pytest.approx(record.val_loss, rel=1e-4)  # which no setting weights


def test_balanced_sampling_draws_each_class_equally_often_and_the_same_images_again():
    training = uneven(sampling="balanced", batch_size=32)
    orders = torch.stack([training._order(epoch) for epoch in range(1, 201)])
    shares = torch.bincount(training._labels[orders.flatten()], minlength=3) / orders.numel()
    assert shares.tolist() == pytest.approx([1 / 3] * 3, abs=0.02)
    assert orders.shape[1] == 96 and torch.equal(uneven(sampling="balanced", batch_size=32)._order(1), orders[0])
    assert not torch.equal(orders[0], orders[1])
    assert metrics(run(uneven(sampling="balanced"), 1)) != metrics(run(uneven(), 1))


def test_settings_for_uneven_classes_are_no_part_of_a_trial_that_does_not_use_them():
    plain = config()
    assert plain.trial_id == config(class_weights="none", sampling="shuffled").trial_id
    assert len({plain.trial_id, config(class_weights="balanced").trial_id, config(sampling="balanced").trial_id}) == 3
