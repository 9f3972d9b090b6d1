"""What goes wrong with GPUs, with stand-ins for them: trials compute on the CPU, and torch, `nvidia-smi` and Ray's list
of nodes say what they would say. Everything else is real."""

import os
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from faults.here import Here
from resnetlab.driver import drive
from resnetlab.errors import BadRequest, DeviceLost, NodeRefused
from resnetlab.ray_backend import backend, cluster, preflight
from resnetlab.ray_backend.worker import TrialWorker
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import read_table
from resnetlab.vision.training import accelerator
from resnetlab.vision.training.loop import Training

STUDY = {
    "name": "s",
    "dataset": {"name": "glyphs", "variants": 1, "limit": 100},
    "baseline": {"blocks": 1, "width": 4, "downsample": 0, "batch_size": 32},
    "arms": {"one": {"kernel": 1}, "three": {"kernel": 3}, "five": {"kernel": 5}},
    "search": {"epochs": 3},
    "confirm": {"design": "arms", "seeds": 1},
    "resources": {"gpus": 0.5},
}
NODE = {
    "Alive": True, "NodeID": "a", "Resources": {"CPU": 8.0, "GPU": 1.0}, "NodeManagerHostname": "n1",
    "NodeManagerAddress": "10.0.0.1",
}  # fmt: skip
BROKEN = {  # what a broken nvidia-smi prints, its exit code, and what is said of it
    "lost": ("Unable to determine the device handle for GPU0: 0000:3B:00.0: GPU is lost. Reboot the system", 15, None),
    "one of two": ("NVIDIA L4, 22000 MiB\nNVIDIA L4, [GPU is lost]", 0, "nvidia-smi: NVIDIA L4, [GPU is lost]"),
    "no driver": ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", 9, None),
    "silent": ("", 255, "nvidia-smi: ended with 255"),
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A sweep on one node with a stand-in of a GPU. A trial whose GPU fails goes back to the sweep through the adapter
    of Tune, and on in another worker."""

    @contextmanager
    def connect(*arguments):
        yield lambda: [NODE]

    def engine(sweep, context, tick, capacity):
        assert context.gpus == 0.5 and capacity.slots == 2
        silence = SimpleNamespace(late=lambda trial_id: False)
        decisions = backend._Decisions(sweep, backend._Guard(), silence, None, capacity)
        while (task := sweep.next()) is not None:
            worker = TrialWorker({"task": task, "context": context})
            try:
                while sweep.report(task.trial_id, worker.step()["report"]):
                    pass
            except DeviceLost as error:
                log = tmp_path / "error.txt"
                log.write_text(f"ray::TrialWorker.train()\nresnetlab.errors.DeviceLost: {error}\n")
                decisions.on_trial_error(None, SimpleNamespace(config={"task": task}, error_file=str(log)))
            made.notes += sweep.notes
            sweep.notes.clear()
            tick()

    made = Here(tmp_path, monkeypatch, STUDY)
    made.notes = []
    monkeypatch.setattr(backend, "run", engine)
    monkeypatch.setattr(cluster, "connect", connect)
    monkeypatch.setattr(cluster, "_nvidia_gpus", lambda: 1)
    monkeypatch.setattr(drive, "built_for", lambda: "cuda")
    monkeypatch.setattr(drive, "TORCH_TYPE", {"cuda": "cpu"})
    return made


def rows(here):
    return {row["arm"]: row for row in read_table(ResultsFolder.at(here.at("x")), "trials").to_pylist()}


def failing(monkeypatch, errors):
    """Epochs of the arm with kernel 3 raise these, one after another, until there are none left."""
    run_epoch = Training.run_epoch

    def broken(training):
        if training.config.kernel == 3 and training.epoch == 1 and errors:
            raise errors.pop(0)
        return run_epoch(training)

    monkeypatch.setattr(Training, "run_epoch", broken)


@pytest.mark.experiment(19)
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79 GiB"),
        torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 17.9 GB)"),
    ],
    ids=["torch", "driver", "cuBLAS", "MPS"],
)
def test_a_trial_for_which_the_gpu_has_too_little_memory(here, monkeypatch, record, error):
    failing(monkeypatch, [error])
    here.run("x")
    found = rows(here)
    assert {name: row["status"] for name, row in found.items()} == {
        "one": "complete", "three": "out_of_memory", "five": "complete",
    }  # fmt: skip
    assert str(error).splitlines()[0] in found["three"]["reason"]
    assert not here.notes
    record(19, out_of_memory=1, complete=2)


@pytest.mark.experiment(20)
def test_a_gpu_that_fails_under_a_trial(here, monkeypatch, record):
    """The trial goes on from its checkpoint in another process, since its own can use the GPU no more."""
    failed = torch.AcceleratorError("CUDA error: unspecified launch failure\nSearch for `cudaErrorLaunchFailure'")
    failing(monkeypatch, [failed, RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")])
    here.run("x")
    assert {row["status"] for row in rows(here).values()} == {"complete"}
    told = [note for note in here.notes if "its process died" in note]
    assert len(told) == 2 and "the GPU failed: CUDA error: unspecified launch failure); it is run again" in told[0]
    record(20, failures=2)


@pytest.mark.experiment(20)
def test_a_gpu_that_fails_under_a_trial_each_time(here, monkeypatch, record):
    failing(monkeypatch, [torch.AcceleratorError("CUDA error: device-side assert triggered")] * 99)
    here.run("x")
    found = rows(here)
    assert found["three"]["status"] == "failed" and found["one"]["status"] == found["five"]["status"] == "complete"
    assert "its process died 4 times: node" in found["three"]["reason"]
    assert "device-side assert triggered" in found["three"]["reason"]
    record(20, failures=4)


@pytest.mark.experiment(20)
@pytest.mark.parametrize("case", BROKEN)
def test_a_gpu_that_nvidia_smi_reports_as_lost(tmp_path, monkeypatch, record, case):
    """The preflight shows it, and refuses the node where trials are to train on GPUs."""
    printed, code, words = BROKEN[case]
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f'#!/bin/sh\ncat << "END"\n{printed}\nEND\nexit {code}\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    gpus, problem = preflight._gpus()
    assert problem == (words or f"nvidia-smi: {printed}")
    assert len(gpus) == (case == "one of two")
    node = preflight.Node("n1", "10.0.0.1", versions=preflight.versions(), gpus=gpus, gpu_problem=problem)
    monkeypatch.setattr(preflight, "_answers", lambda *arguments: [node])
    facts = preflight.DriverFacts(ResultsFolder.at(tmp_path), tmp_path, {}, variables={}, gpus=True)
    with pytest.raises(NodeRefused, match=r"n1 .* cannot be used: nvidia-smi.*\n *Restart these nodes") as caught:
        preflight.check(facts, lambda: None, lambda shown: None)
    assert problem in str(caught.value)
    idle = preflight.DriverFacts(ResultsFolder.at(tmp_path), tmp_path, {}, variables={})
    assert preflight.check(idle, lambda: None, lambda shown: None)[0]["gpu_problem"] == problem
    record(20, refused=1)


@pytest.mark.experiment(21)
def test_a_driver_that_is_too_old_ends_the_sweep_before_a_trial_is_lost(here, monkeypatch, record):
    def ones(size, device):
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040). Please update it\nmore")

    with monkeypatch.context() as old:
        old.setattr(drive, "TORCH_TYPE", {})
        old.setattr(torch, "ones", ones)
        accelerator.check_usable.cache_clear()
        words = r"cannot use the GPU .* driver on your system is too old \(found version 11040\).*; then "
        with pytest.raises(NodeRefused, match=words) as caught:
            here.run("x")
    assert caught.value.exit_code == 2
    here.run("x")
    assert [row["status"] for row in rows(here).values()] == ["complete"] * 3
    record(21, refused=1)


@pytest.mark.experiment(22)
def test_gpus_that_a_variable_hides(here, monkeypatch, record):
    with monkeypatch.context() as hidden:
        hidden.setenv("CUDA_VISIBLE_DEVICES", "")
        with pytest.raises(BadRequest, match=r"CUDA_VISIBLE_DEVICES: is '', which hides every GPU.*allowed: unset"):
            here.run("x")
    assert not here.at("x").exists()
    here.run("x")
    assert [row["status"] for row in rows(here).values()] == ["complete"] * 3
    record(22, refused=1)


@pytest.mark.experiment(23)
def test_nodes_with_gpus_of_different_kinds(here, monkeypatch, record):
    @contextmanager
    def connect(*arguments):
        yield lambda: [NODE, NODE | {"NodeID": "b", "NodeManagerHostname": "n2"}]

    kinds = iter(["cuda", "rocm"])
    with monkeypatch.context() as mixed:
        mixed.setattr(cluster, "connect", connect)
        mixed.setattr(drive, "built_for", lambda: next(kinds))
        with pytest.raises(NodeRefused, match=r"cuda: n1 .*rocm: n2 .*allowed: one kind"):
            here.run("x")
    assert not here.at("x").exists()
    record(23, refused=1)
