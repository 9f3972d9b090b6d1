"""The table of the preflight, and what it refuses. Real nodes: test_real_sweep, `make test-cluster`."""

import io
import platform

import pytest
from rich.console import Console
from sweeps_here import FACTS

from resnetlab.driver.checks.dataset_record import starts
from resnetlab.errors import BadData, BadRequest, NodeRefused, OtherData
from resnetlab.experiment.messages import TrialContext
from resnetlab.provenance import versions
from resnetlab.ray_backend import preflight
from resnetlab.ray_backend.preflight import DriverFacts, Node, check_here, decisive
from resnetlab.ray_backend.worker import TrialWorker
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import Store, read_table
from resnetlab.study import build_study
from resnetlab.study.data_config import DataConfig
from resnetlab.sweep.state_machine import Sweep
from resnetlab.sweep.task import data_key
from resnetlab.vision.data import prepare

OURS = {"python": "3.11.7", "torch": "2.14.1+cu128", "ray": "2.60.0", "optuna": "5.0.0", "numpy": "2.4.0"}
ARMS = {
    "arms": {"a": {"kernel": 1}, "b": {"kernel": 3}},
    "search": {"epochs": 1},
    "confirm": {"design": "arms", "seeds": 2},
}
DATA = DataConfig(name="glyphs", variants=2, limit=600)


def node(number, data="0123456789abcdef", storage="", gpus=(), variables=None, **others):
    return Node(
        host=f"n{number}",
        address=f"10.0.0.{number}",
        versions=OURS | others,
        variables=variables or {},
        machine="x86_64, 8 cores",
        gpus=gpus,
        memory=number << 30,
        data={"data glyphs": data},
        storage=storage,
    )


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """check() of made-up answers; what it has shown, as text."""

    def ask(*nodes, variables=None):
        data = {"data glyphs": (DATA, "0123456789abcdef")}
        driver = DriverFacts(ResultsFolder.at(tmp_path), tmp_path, data, OURS, variables or {})
        monkeypatch.setattr(preflight, "_answers", lambda *arguments: list(nodes))
        said = io.StringIO()
        console = Console(file=said, width=100)
        try:
            preflight.check(driver, lambda: None, console.print)
        finally:
            ask.said = said.getvalue()
        return ask.said

    return ask


def test_nodes_that_are_alike_are_one_column(ask):
    said = ask(*(node(number) for number in range(1, 6)))
    assert "n1, n2, n3 and 2 more" in said and "2.14.1+cu128" in said and "1.0 to 5.0 GiB" in said
    assert "differs" not in said and "refused" not in said


def test_what_alters_nothing_is_shown_and_not_refused(ask):
    gpu = ("NVIDIA L4, 22000 MiB", "NVIDIA L4, 21000 MiB")
    said = ask(node(1), node(2, optuna="4.9.0", torch="2.14.1+cpu", python="3.11.9", gpus=gpu))
    differing = {line.split()[0] for line in said.splitlines() if line.rstrip().endswith("differs")}
    assert differing == {"optuna", "torch", "python", "GPUs"}
    assert "2 × NVIDIA L4" in said and "GPU 21000 MiB to 22000 MiB" in said


@pytest.mark.parametrize(
    "other, kind, code, words",
    [
        (node(2, torch="2.13.0"), NodeRefused, 2, "node n2 (10.0.0.2) has torch 2.13.0, the driver 2.14.1+cu128"),
        (node(2, python="3.12.1"), NodeRefused, 2, "has python 3.12.1, the driver 3.11.7"),
        (node(2, data="fedcba9876543210"), BadData, 3, "has data glyphs with hash fedcba9876543210, the driver 0123"),
        (node(2, data="/x: no such folder"), BadData, 3, "has no data glyphs: /x: no such folder"),
        (node(2, storage="cannot write: Read-only file system"), BadRequest, 2, "(10.0.0.2) cannot write: Read-only"),
        (Node("n2", "10.0.0.2", problem="cannot run this project: no module"), NodeRefused, 2, "cannot run this"),
    ],
)
def test_a_node_that_would_alter_results_is_refused(ask, other, kind, code, words):
    with pytest.raises(kind) as caught:
        ask(node(1), other)
    assert words in str(caught.value) and caught.value.exit_code == code and "refused" in ask.said


@pytest.mark.parametrize(
    "ours, theirs, words",
    [
        ({}, {"ONEDNN_MAX_CPU_ISA": "AVX2"}, "has ONEDNN_MAX_CPU_ISA AVX2, the driver unset: that may alter results"),
        ({"ATEN_CPU_CAPABILITY": "avx2"}, {}, "has ATEN_CPU_CAPABILITY unset, the driver avx2: that may alter results"),
        ({"DNNL_DEFAULT_FPMATH_MODE": "BF16"}, {"DNNL_DEFAULT_FPMATH_MODE": "ANY"}, "MODE ANY, the driver BF16"),
    ],
)
def test_a_node_whose_variables_choose_another_arithmetic_is_refused(ask, ours, theirs, words):
    with pytest.raises(NodeRefused) as caught:
        ask(node(1, variables=ours), node(2, variables=theirs), variables=ours)
    assert words in str(caught.value)
    assert "Set these variables alike on every node" in str(caught.value) and "node n1" not in str(caught.value)
    (row,) = [line for line in ask.said.splitlines() if line.startswith("variables")]
    assert row.rstrip().endswith("refused")


def test_variables_that_are_alike_are_shown_and_not_refused(ask):
    both = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    assert "variables" in ask(node(1, variables=both), node(2, variables=both), variables=both)
    assert "ONEDNN_MAX_CPU_ISA=AVX2" in ask.said and "refused" not in ask.said


def test_everything_that_is_wrong_stands_in_one_message(ask):
    with pytest.raises(NodeRefused) as caught:
        ask(node(1), node(2, torch="2.13.0", storage="cannot write: x"), node(3, data="fedcba9876543210"))
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + 3 + 3 and "n2" in lines[1] and "n2" in lines[2] and "n3" in lines[3]
    assert "constraints.txt" in lines[4] and "mounts" in lines[5] and "same files" in lines[6]
    assert sum(line.rstrip().endswith("refused") for line in ask.said.splitlines()) == 3


def test_a_node_makes_the_data_it_lacks_and_probes_the_storage(tmp_path):
    folder = ResultsFolder.at(tmp_path / "results")
    folder.write("probe/t", b"t")
    config = DATA.model_dump(mode="json")
    broken = config | {"name": "folder", "root": "/nowhere", "variants": DataConfig.model_fields["variants"].default}
    found = preflight._facts_here(folder.place, "t", "n", str(tmp_path / "cache"), {"a": config, "b": broken})
    assert found["data"]["a"] == prepare(DATA, tmp_path / "cache").hash
    assert "/nowhere" in found["data"]["b"] and found["storage"] == "" and folder.read("probe/t-n") == b"n"
    assert found["versions"] == versions() and found["memory"] > 1 << 20
    assert preflight._storage_problem(str(tmp_path / "other"), "t", "n") == "does not see what the driver wrote"
    (tmp_path / "results/probe/t-m").mkdir()
    assert preflight._storage_problem(folder.place, "t", "m").startswith("cannot write: ")


@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY"])
def test_the_variables_of_a_node_are_read_where_its_trials_run(name, tmp_path, monkeypatch):
    monkeypatch.delenv(name, raising=False)
    before = preflight._facts_here(str(tmp_path), "t", "n", str(tmp_path), {})["variables"]
    monkeypatch.setenv(name, "avx2")
    assert preflight._facts_here(str(tmp_path), "t", "n", str(tmp_path), {})["variables"] == before | {name: "avx2"}
    assert DriverFacts(ResultsFolder.at(tmp_path), tmp_path, {}).variables == before | {name: "avx2"}
    assert decisive()[name] == "avx2"


def test_a_trial_refuses_a_node_that_joined_with_another_variable():
    with pytest.raises(NodeRefused, match=r"has ONEDNN_MAX_CPU_ISA \S+, the sweep's is SSE41: .* or set it alike"):
        check_here(decisive() | {"ONEDNN_MAX_CPU_ISA": "SSE41"})


def test_a_trial_refuses_a_node_that_joined_with_another_version():
    check_here({})
    check_here(decisive())
    with pytest.raises(
        NodeRefused, match=r"node \S+, which joined during the sweep, has torch \S+, the sweep's is 1.0"
    ):
        check_here(decisive() | {"torch": "1.0"})


@pytest.mark.parametrize("differs, kind, code", [("torch", NodeRefused, 2), ("data", OtherData, 3)])
def test_a_node_that_joined_late_and_differs_ends_the_sweep_and_loses_nothing(tmp_path, differs, kind, code):
    """With the real worker: as a failed trial, one bad node would fail all that are left."""
    study = build_study({"name": "late", "dataset": DATA.model_dump(include={"name", "variants", "limit"})} | ARMS, "x")
    folder, dataset = ResultsFolder.at(tmp_path / "results"), prepare(DATA, tmp_path / "cache")
    key = data_key(next(iter(starts(study).values())))
    store = Store(folder, study.columns)
    sweep = Sweep(study, store, FACTS, {key: ("0" * 16 if differs == "data" else dataset.hash, dataset.classes)})
    task = sweep.next()
    wanted = decisive() | ({"torch": "1.0"} if differs == "torch" else {})
    context = TrialContext(folder.place, tmp_path / "cache", cpus=1, gpus=0, epoch_timeout_s=600, versions=wanted)
    worker = TrialWorker({"task": task, "context": context})
    with pytest.raises(kind) as caught:
        sweep.report(task.trial_id, worker.step()["report"])
    assert caught.value.exit_code == code and platform.node() in str(caught.value)
    sweep.interrupt()
    store.close()
    (row,) = read_table(folder, "trials").to_pylist()
    assert (row["status"], row["epochs_run"]) == ("interrupted", 0)
