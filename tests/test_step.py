"""Training steps: precision, deterministic algorithms, captured steps. Tests that need a GPU are marked."""

import json
import math
import time

import pytest
import torch
from pydantic import ValidationError
from test_training import CUDA, OPTIMIZERS, config, made, metrics, run, same_weights

from resnetlab.errors import BadRequest
from resnetlab.study import build_study, differences, legacy
from resnetlab.study.frozen import digest
from resnetlab.study.trial_config import TrialConfig
from resnetlab.vision.training import loop, machine, prefix
from resnetlab.vision.training.energy import joules
from resnetlab.vision.training.loop import Training
from resnetlab.vision.training.optim import set_lr
from resnetlab.vision.training.step import WARM, GraphedStep

by_optimizer = pytest.mark.parametrize("settings", OPTIMIZERS, ids=lambda settings: settings["optimizer"])


def study(**changes):
    content = {
        "name": "s",
        "dataset": {"name": "glyphs"},
        "factors": {"kernel": {"levels": [3, 5]}},
        "confirm": {"seeds": 2},
    }
    return build_study(content | changes, "s.yaml")


# What is asked


def test_precision_is_part_of_a_trial_and_earlier_trials_keep_their_ids():
    plain = config()
    assert plain.trial_id == TrialConfig(**{**plain.model_dump(), "precision": "fp32"}).trial_id
    earlier = {key: value for key, value in plain.identity().items() if key not in legacy.LATER}
    assert plain.trial_id == digest({"batch" if key == "batch_size" else key: earlier[key] for key in earlier})[:12]
    others = {config(precision="bf16").trial_id, config(deterministic=True).trial_id, config(precision="tf32").trial_id}
    assert len(others | {plain.trial_id}) == 4


def test_precision_is_set_for_a_whole_study_and_for_nothing_less():
    found = study(precision="bf16", deterministic=True)
    assert found.config({"kernel": 5}, seed=1).precision == found.baseline_config(0).precision == "bf16"
    assert found.baseline_config(0).deterministic
    for part in ({"baseline": {"precision": "bf16"}}, {"factors": {"precision": {"levels": ["fp32", "bf16"]}}}):
        with pytest.raises(BadRequest, match="precision"):
            study(**part)
    with pytest.raises(BadRequest, match=r"tf32 needs a GPU \(allowed without resources.gpus: fp32, bf16\)"):
        study(precision="tf32")
    assert study(precision="tf32", resources={"gpus": 1}).precision == "tf32"
    with pytest.raises(ValidationError):
        config(precision="fp16")


def test_a_folder_of_another_precision_is_another_study():
    one, other = study(), study(precision="bf16")
    assert one.study_hash != other.study_hash
    assert differences(one.identity(), other.identity()) == [
        "precision: 'fp32' in the folder, 'bf16' asked for",
    ]


# Arithmetic


def test_bf16_learns_what_fp32_learns_but_not_in_its_bits():
    data = made(noise=20.0)
    fp32, bf16 = (run(Training(config(precision=name), data)) for name in ("fp32", "bf16"))
    assert metrics(fp32) != metrics(bf16)
    assert bf16.history[-1].train_loss == pytest.approx(fp32.history[-1].train_loss, abs=0.1)
    assert all(value.dtype != torch.bfloat16 for value in bf16.model.state_dict().values())
    assert metrics(run(Training(config(precision="bf16"), data))) == metrics(bf16)
    assert bf16.settings["precision"] == "bf16" and bf16.test().accuracy > 0.5


def test_a_cached_prefix_is_of_one_precision():
    prefix.forget()
    data = made()
    for precision in ("fp32", "bf16", "fp32"):
        c = config(epochs=2, frozen=2, precision=precision)
        cached, plain = run(Training(c, data)), run(Training(c, data, cache_prefix=False))
        assert cached.prefix_cached and not plain.prefix_cached
        for one, other in zip(cached.history, plain.history, strict=True):
            assert one.val_loss == pytest.approx(other.val_loss, abs=0.02 if precision == "bf16" else 1e-4)


def test_tf32_is_refused_on_a_cpu():
    with pytest.raises(BadRequest, match=r"tf32 needs a GPU of NVIDIA, this is a cpu \(allowed: fp32, bf16\)"):
        Training(config(precision="tf32"), made())


def test_the_record_says_how_a_trial_ran():
    training = run(Training(config(deterministic=True), made()), epochs=1)
    found = json.loads(json.dumps(training.settings))
    assert found["precision"] == "fp32" and found["deterministic"] is True and found["step"] == "eager"
    assert found["evaluation_batch"] == machine.EVALUATION_BATCH and found["compile"] is False
    assert found["malloc"] in (machine.MALLOC, None) and "omp_wait_policy" in found
    assert found["mkl_cbwr"] == "AUTO"
    assert training.energy is None, "nothing counts the energy of a CPU here"


def test_a_trials_energy_is_what_the_counter_rose_in_its_epochs(monkeypatch):
    """Between epochs it is others' energy; where the counter no longer answers, what was counted stays."""
    counter = iter([10.0, 13.0, 50.0, 57.5, 60.0, None])
    monkeypatch.setattr(loop, "joules", lambda device: next(counter))
    assert run(Training(config(epochs=3), made())).energy == 3.0 + 7.5


# Captured steps: with a capture that runs the work again, so that all but CUDA's part is tried


def graphed(settings, capture=None, data=None):
    training = Training(config(epochs=3, **settings), data or made(train=90))
    make = training._make_step

    def captured():
        eager = make()
        return GraphedStep(eager._forward, training._optimizer, training.config, training.device, capture)

    training._make_step = captured
    return training


@by_optimizer
def test_captured_steps_train_as_eager_ones(settings):
    seen = []

    def capture(work):
        seen.append(work)
        return work

    eager = run(Training(config(epochs=3, **settings), made(train=90)))
    training = run(graphed(settings, capture))
    assert metrics(training) == metrics(eager) and same_weights(training, eager)
    assert len(seen) == 1 and training.settings["step"] == "graph"


def test_what_cannot_be_captured_runs_as_it_is_and_says_why():
    def capture(work):
        assert all(p.grad is None for p in training.model.parameters())
        raise RuntimeError("operation not permitted when stream is capturing\nCUDA kernel errors might …")

    training = graphed(OPTIMIZERS[0], capture)
    run(training)
    eager = run(Training(config(epochs=3, **OPTIMIZERS[0]), made(train=90)))
    assert metrics(training) == metrics(eager) and same_weights(training, eager)
    assert training.settings["step"] == "eager, not captured: operation not permitted when stream is capturing"


def test_batches_of_another_size_are_not_replayed():
    calls = []

    def capture(work):
        def replay():
            calls.append(1)
            work()

        return replay

    run(graphed({}, capture))  # 3 epochs of 32, 32 and 26 images
    assert len(calls) == 3 * 2 - WARM


def test_learning_rates_on_the_device_are_changed_in_place():
    """A captured optimizer reads them where they were when it was captured."""
    optimizer = torch.optim.SGD([{"params": [torch.zeros(1)], "peak_lr": 0.5}], lr=0.5)
    tensor = optimizer.param_groups[0]["lr"] = torch.tensor(0.5)
    assert set_lr(optimizer, 0.1) == 0.05
    assert optimizer.param_groups[0]["lr"] is tensor and tensor.item() == pytest.approx(0.05)


@CUDA
@by_optimizer
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_graph_trains_as_eager_steps_do(settings, precision):
    c, data = config(epochs=4, deterministic=True, precision=precision, **settings), made(train=400)
    eager, graph = (run(Training(c, data, device="cuda", graph=graph)) for graph in (False, True))
    assert eager.settings["step"] == "eager" and graph.settings["step"] == "graph"
    for one, other in zip(eager.history, graph.history, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-3)
        assert one.lr == pytest.approx(other.lr) and math.isfinite(other.val_loss)


@CUDA
@pytest.mark.parametrize(
    "model", [{}, {"model": "cnn", "width": 8}, {"model": "cnn-resnet", "width": 8}, {"model": "mlp"}, {"frozen": 2}]
)
def test_every_kind_of_network_is_captured(model):
    c = TrialConfig(data={"name": "folder"}, batch_size=32, epochs=2, lr=0.01, **model)
    training = run(Training(c, made(train=320), device="cuda"))
    assert training.settings["step"] == "graph"


@CUDA
def test_a_network_that_waits_for_the_device_falls_back():
    training = Training(config(epochs=3), made(train=320), device="cuda")
    training.model.register_forward_hook(lambda module, inputs, output: output + 0.0 * output.sum().item())
    run(training)
    assert training.settings["step"].startswith("eager, not captured: ")
    eager = run(Training(config(epochs=3), made(train=320), device="cuda", graph=False))
    assert training.history[-1].val_loss == pytest.approx(eager.history[-1].val_loss, rel=1e-2)
    after = run(Training(config(epochs=3), made(train=320), device="cuda"))
    assert after.settings["step"] == "graph"


@CUDA
def test_a_resumed_graph_goes_on():
    c, data = config(epochs=4, dropout=0.3, optimizer="adamw", lr=0.01, deterministic=True), made(train=320)
    through = run(Training(c, data, device="cuda"))
    begun = run(Training(c, data, device="cuda"), epochs=2)
    resumed = run(Training(c, data, device="cuda", state=begun.state()))
    for one, other in zip(through.history, resumed.history, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-3)


@CUDA
def test_energy_is_counted_where_the_gpu_tells():
    before = joules(torch.device("cuda"))
    training = run(Training(config(epochs=3), made(train=320), device="cuda"))
    if before is None:
        assert training.energy is None
        pytest.skip("this GPU counts no energy")
    assert 0 <= training.energy <= joules(torch.device("cuda")) - before
    until = time.monotonic() + 30
    while joules(torch.device("cuda")) == before:
        assert time.monotonic() < until, "the counter stands still"
