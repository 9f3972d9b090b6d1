"""Gradients of every built-in network against those of float64, under every instruction set that oneDNN has here.

Each instruction set has a process of its own, which a wrong kernel may end by a signal: then the test names the case.
`tests/kernels/search.py` looks at many more cases, and at torch's convolutions as such.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from resnetlab.study.trial_config import TrialConfig
from resnetlab.vision.data import Dataset
from resnetlab.vision.models.blocks import StridedPointwise
from resnetlab.vision.training import machine
from resnetlab.vision.training.loop import Training

CONTIGUOUS = torch.contiguous_format
KERNELS = str(Path(__file__).resolve().parent / "kernels")
sys.path.insert(0, KERNELS)
try:
    import search
    import steps
finally:
    sys.path.remove(KERNELS)

WIDTHS = (1, 4, 6, 7)


def cases():
    """Narrow networks of each kind, the wide ones once, and each optimizer in each precision."""
    narrow = [case for case in steps.networks(WIDTHS) if case.get("kernel") != 5]
    return [*narrow, *(case for case in steps.optimizers((4,)) if case["model"] == "resnet")]


def failures(found):
    """In words, of what `search.steps` gave."""
    wrong = []
    for case, outcome in found:
        if "died" in outcome:
            wrong.append(f"{search.name(case)}: the process died of {outcome['died']} ({outcome['said']})")
        elif outcome["error"] > steps.allowed(case):
            wrong.append(f"{search.name(case)}: {outcome['where']} is off by {outcome['error']:.2g}")
    return wrong


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("isa", [isa for isa in search.instruction_sets() if isa != "none"])
def test_gradients_of_every_network_are_those_of_float64(isa, threads):
    asked = cases()
    found = list(search.steps(asked, isa, threads))
    assert not failures(found) and len(found) == len(asked)


# Networks from elsewhere


def network(inputs, **changes):
    conv = torch.nn.Conv2d(inputs, 8, **({"kernel_size": 1, "stride": 2} | changes))
    return torch.nn.Sequential(conv, torch.nn.ReLU())


@pytest.mark.parametrize("isa", ["SSE41", "AVX2", "avx2_vnni"])
def test_a_network_that_onednn_gets_wrong_without_avx512_is_laid_out_contiguously(isa, monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", isa)
    cpu = torch.device("cpu")
    assert machine.memory_format(network(4), cpu) == machine.memory_format(network(8, groups=2), cpu) == CONTIGUOUS
    for sound in (network(8), network(4, kernel_size=3), network(4, stride=1)):
        assert machine.memory_format(sound, cpu) == torch.channels_last
    assert machine.memory_format(network(4), torch.device("cuda")) == torch.channels_last


@pytest.mark.parametrize(
    "case", [case for case in steps.networks((1, 4)) if case["model"] in steps.WIDE], ids=search.name
)
def test_no_network_of_ours_needs_another_layout(case, monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert machine.memory_format(steps.made(case)[0], torch.device("cpu")) == torch.channels_last


@pytest.mark.skipif(not search.has_avx512(), reason="needs AVX-512")
def test_with_avx512_every_network_is_channels_last(monkeypatch):
    for isa in ("AVX512_CORE", "DEFAULT", ""):
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", isa)
        assert machine.memory_format(network(4), torch.device("cpu")) == torch.channels_last


def test_convolutions_from_elsewhere_are_right_in_the_layout_that_is_chosen():
    """Those that are wrong in channels_last, in one process under AVX2; without the choice it dies."""
    asked = [case | {"layout": "chosen"} for case in steps.convolutions(strided_pointwise=True) if case["side"] == 12]
    found = list(search.steps(asked, "AVX2", 1))
    assert not failures(found) and len(found) == len(asked)


def data(channels):
    rng = np.random.default_rng(0)
    places = {"val": np.arange(64, 80), "test": np.arange(80, 96)}
    images = rng.integers(0, 256, (96, 8, 8, channels), dtype=np.uint8)
    return Dataset.from_arrays(images, np.arange(96) % 2, ["a", "b"], places)


def config(**changes):
    base = {"blocks": 1, "width": 4, "downsample": 1, "batch_size": 16, "epochs": 2, "optimizer": "adam", "lr": 0.01}
    return TrialConfig(data={"name": "folder"}, **base | changes)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("settings", [{}, {"frozen": 1}], ids=["all trained", "from a cached prefix"])
def test_a_trial_keeps_its_layout_in_every_map_and_records_it(channels, settings, monkeypatch):
    monkeypatch.setattr(machine, "memory_format", lambda model, device: CONTIGUOUS)
    training, seen = Training(config(**settings), data(channels)), []
    for module in training.model.modules():
        if isinstance(module, torch.nn.Conv2d) and not isinstance(module, StridedPointwise):
            module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    training.run_epoch()
    assert seen and all(x.stride() == torch.empty(x.shape).stride() for x in seen)
    assert training.settings["memory_format"] == "contiguous_format"


def test_a_checkpoint_goes_on_in_another_layout(monkeypatch):
    straight = Training(config(), data(3))
    straight.run_epoch()
    state = straight.state()
    straight.run_epoch()
    monkeypatch.setattr(machine, "memory_format", lambda model, device: CONTIGUOUS)
    other = Training(config(), data(3), state=state)
    assert other.run_epoch().val_loss == pytest.approx(straight.history[-1].val_loss, abs=1e-4)
    for one, two in zip(straight.model.parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)
