"""What trials train on: the choice by what nodes have, what torch is built for, and whether it can use its GPU. The
GPUs are stand-ins."""

import sys
import warnings
from types import SimpleNamespace

import pytest
import torch

from resnetlab.errors import BadRequest, NodeRefused
from resnetlab.ray_backend import cluster
from resnetlab.ray_backend.capacity import in_words
from resnetlab.ray_backend.gpu.choice import Choice, choose
from resnetlab.study import Resources, build_study
from resnetlab.vision.training import accelerator, machine
from resnetlab.vision.training.accelerator import built_for, check_usable


def node(name, gpus=0):
    resources = {"CPU": 8.0} | ({"GPU": float(gpus)} if gpus else {})
    here = {"NodeManagerHostname": name, "NodeManagerAddress": f"10.0.0.{name[1:]}"}
    return {"Alive": True, "NodeID": name, "Resources": resources, **here}


HEAD, ONE, TWO = node("n0"), node("n1", 1), node("n2", 8)


@pytest.mark.parametrize(
    "resources, nodes, kinds, chosen",
    [
        ({}, [ONE], {"n1": "cuda"}, Choice("cpu", 0.0)),
        ({"gpus": 0.25}, [HEAD, ONE], {"n0": "cpu", "n1": "cuda"}, Choice("cuda", 0.25)),
        ({"gpus": "auto"}, [ONE], {"n1": "cuda"}, Choice("cuda", "auto")),
        ({"device": "rocm"}, [ONE], {"n1": "rocm"}, Choice("rocm", 1.0)),
        ({"device": "auto"}, [HEAD, ONE, TWO], {"n1": "xpu", "n2": "xpu"}, ("xpu", 1.0, "9 GPUs on 2 nodes")),
        ({"device": "auto", "gpus": 0.5}, [HEAD], {"n0": "cuda"}, ("cpu", 0.0, "no node has a GPU")),
        ({"device": "auto"}, [ONE], {"n1": "cpu"}, ("cpu", 0.0, "torch is built for CPUs alone")),
        ({"device": "auto"}, [node("n1", 1)], {"n1": "mps"}, ("mps", 1.0, "1 GPU on 1 node")),
        ({"device": "cpu"}, [TWO], {"n2": "cuda"}, Choice("cpu", 0.0)),
    ],
)  # fmt: skip
def test_the_device_is_chosen_by_what_is_there(resources, nodes, kinds, chosen):
    assert choose(Resources(**resources), nodes, kinds) == (Choice(*chosen) if isinstance(chosen, tuple) else chosen)


@pytest.mark.parametrize(
    "resources, kinds, error, words",
    [
        (
            {"gpus": 1},
            {"n1": "cuda", "n2": "rocm"},
            NodeRefused,
            r"cuda: n1 \(10.0.0.1\); rocm: n2 .*: one kind",
        ),
        ({"device": "auto"}, {"n1": "cuda", "n2": "cpu"}, NodeRefused, r"cpu: n2 \(10.0.0.2\)"),
        (
            {"device": "rocm"},
            {"n1": "cuda", "n2": "cuda"},
            BadRequest,
            r"rocm, but .* are cuda \(allowed: auto",
        ),
        ({"gpus": 1}, {"n1": "cpu", "n2": "cpu"}, BadRequest, "to train on a GPU, but torch is built for CPUs alone"),
    ],
)
def test_nodes_of_different_kinds_or_of_another_are_refused(resources, kinds, error, words):
    with pytest.raises(error, match=words):
        choose(Resources(**resources), [ONE, TWO], kinds)


def test_a_request_that_contradicts_itself_is_refused():
    study = {"name": "s", "dataset": {"name": "glyphs"}, "factors": {"kernel": {"levels": [3, 5]}}}
    with pytest.raises(BadRequest, match=r"device: cpu, but gpus: 0.5 \(allowed: gpus: 0, or another device\)"):
        build_study(study | {"resources": {"device": "cpu", "gpus": 0.5}}, "s.yaml")
    with pytest.raises(BadRequest, match=r"resources.device"):
        build_study(study | {"resources": {"device": "tpu"}}, "s.yaml")
    plain = build_study(study, "s.yaml")
    assert build_study(study | {"resources": {"device": "auto"}}, "s.yaml").study_hash == plain.study_hash


def test_what_a_trial_gets_in_words():
    assert in_words(Resources(device="auto", gpus=0.25)) == "1 CPU and, where there is one, 0.25 GPUs"
    assert in_words(Resources(device="cuda")) == "1 CPU and 1 GPU" and in_words(Resources(device="cpu")) == "1 CPU"


@pytest.mark.parametrize(
    "version, platform, kind",
    [
        ("cuda = '12.8'\nhip = None", "linux", "cuda"),
        ("cuda = None\nhip = '6.4'", "linux", "rocm"),
        ("cuda = None\nhip = None\nxpu = '20250101'", "linux", "xpu"),
        ("cuda = None\nhip = None", "linux", "cpu"),
        ("cuda = None\nhip = None", "darwin", "mps"),
    ],
)
def test_what_torch_is_built_for(tmp_path, monkeypatch, version, platform, kind):
    (tmp_path / "version.py").write_text(version)
    found = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(accelerator, "find_spec", lambda name: found)
    monkeypatch.setattr(accelerator, "sys", SimpleNamespace(platform=platform))
    monkeypatch.setattr(accelerator, "platform", SimpleNamespace(machine=lambda: "arm64"))
    built_for.cache_clear()
    try:
        assert built_for() == kind
    finally:
        built_for.cache_clear()


def test_what_this_torch_is_built_for():
    built = torch.accelerator.current_accelerator(check_available=False)
    kind = "cpu" if built is None else "rocm" if torch.version.hip else built.type
    assert built_for() == kind


@pytest.mark.parametrize("variable", ["CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"])
@pytest.mark.skipif(sys.platform != "linux", reason="counts the device files of Linux")
def test_gpus_that_are_hidden_are_named(monkeypatch, variable):
    monkeypatch.setattr(cluster, "_nvidia_gpus", lambda: 2)
    cluster.check_reachable(None, Resources(gpus=1))
    monkeypatch.setenv(variable, "")
    with pytest.raises(BadRequest, match=rf"{variable}: is '', which hides every GPU"):
        cluster.check_reachable(None, Resources(gpus=0.5))
    cluster.check_reachable(None, Resources(device="auto"))
    cluster.check_reachable(None, Resources())


FAULTS = {  # what torch says, as a warning or as an error, and what of it is told
    "a driver too old": (
        ["CUDA initialization: The NVIDIA driver on your system is too old (found version 11040). Please update"],
        RuntimeError("No CUDA GPUs are available"),
        "The NVIDIA driver on your system is too old",
    ),
    "no driver": ([], RuntimeError("Found no NVIDIA driver on your system. Please check"), "Found no NVIDIA driver"),
    "no GPU visible": ([], RuntimeError("No CUDA GPUs are available"), "No CUDA GPUs are available"),
    "a GPU without code": (
        [],
        RuntimeError("CUDA error: no kernel image is available for execution on the device\nSearch for …"),
        "no kernel image is available for execution on the device: mend that",
    ),
    "a GPU off the bus": ([], RuntimeError("CUDA error: unknown error"), "CUDA error: unknown error"),
    "torch without it": ([], AssertionError("Torch not compiled with CUDA enabled"), "not compiled with CUDA"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_gpu_that_torch_cannot_use_is_refused_with_the_reason(monkeypatch, case):
    said, error, words = FAULTS[case]

    def ones(size, device):
        for text in said:
            warnings.warn(text, stacklevel=1)
        raise error

    monkeypatch.setattr(torch, "ones", ones)
    check_usable.cache_clear()
    check_usable("cpu")
    for _ in range(2):
        with pytest.raises(NodeRefused, match=rf"cannot use the GPU .* \(cuda\): .*{words}.* resources.gpus: 0"):
            check_usable("cuda")


def test_a_full_gpu_is_not_a_broken_one(monkeypatch):
    def ones(size, device):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 MiB")

    monkeypatch.setattr(torch, "ones", ones)
    check_usable.cache_clear()
    with pytest.raises(torch.OutOfMemoryError):
        check_usable("cuda")


@pytest.mark.parametrize("device, precision", [("mps", "tf32"), ("xpu", "tf32")])
def test_tf32_is_of_nvidia_alone(device, precision):
    with pytest.raises(BadRequest, match=f"tf32 needs a GPU of NVIDIA, this is a {device}"):
        machine.check_precision(precision, torch.device(device))


class FakeModule:
    """torch.xpu or torch.mps, as far as training asks them."""

    def __init__(self, called):
        self.called = called

    def __getattr__(self, name):
        return lambda *given: self.called.append(name) or {"mem_get_info": (80, 100)}.get(name, 7)


def test_other_devices_are_asked_through_their_own_modules(monkeypatch):
    called = []
    monkeypatch.setattr(torch, "get_device_module", lambda device: FakeModule(called))
    monkeypatch.setattr(torch, "mps", FakeModule(called))
    xpu, mps = torch.device("xpu"), torch.device("mps")
    for device in (xpu, mps):
        machine.give_back(device)
        machine.begin_peak(device)
        assert machine.peak_memory(device) == 7
    assert machine.spare_memory(xpu) == 10 and machine.spare_memory(mps) > 100
    assert called == [
        "empty_cache", "reset_peak_memory_stats", "max_memory_allocated", "empty_cache", "current_allocated_memory",
        "mem_get_info",
    ]  # fmt: skip
    assert machine.sums_type(mps) == torch.float32 and machine.sums_type(xpu) == torch.float64


def test_a_mac_gives_ray_the_gpu_that_it_does_not_count(monkeypatch):
    asked = []
    monkeypatch.setattr(cluster, "_init", lambda *where, **how: asked.append(how.get("num_gpus")) or None)
    for kind, resources in (("mps", {"device": "auto"}), ("mps", {}), ("cuda", {"device": "auto"})):
        monkeypatch.setattr(cluster, "built_for", lambda kind=kind: kind)
        with pytest.raises(AttributeError), cluster._local_ray(Resources(**resources)):
            pass  # there is no context without a Ray
    assert asked == [1, None, None]
