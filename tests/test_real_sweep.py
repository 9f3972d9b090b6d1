"""A whole sweep on real Ray, Optuna and ASHA: run, kill, continue, interrupt, two nodes, report."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import images_here
import numpy as np
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

from resnetlab.analysis.results import Results
from resnetlab.ray_backend import reaper
from resnetlab.report.findings import Findings
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import read_table

ROOT = Path(__file__).resolve().parents[1]
STUDY = """
dataset: {name: glyphs, variants: 2, limit: 600}
baseline: {blocks: 1, width: 4, downsample: 1, batch_size: 32, lr: 0.1}
factors:
  kernel: {levels: [1, 3]}
  optimizer: {levels: [sgd, adamw]}
  lr:
    - {when: {optimizer: sgd}, low: 0.01, high: 0.3, log: true}
    - {when: {optimizer: adamw}, low: 1e-3, high: 1e-2, log: true}
search: {trials: 6, epochs: 4, reduction_factor: 2, audit: 0}
confirm: {seeds: 2}
"""

SECRET = "wJalrXUtnFEMI"
# of the workers of this process's cluster; other processes, of this suite and of others, have others
PORTS = 21000 + 500 * (os.getpid() % 17)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the study and a data cache that all tests here share."""
    place = tmp_path_factory.mktemp("sweeps")
    (place / "tiny.yaml").write_text(STUDY)
    return place


def environment(place, **more):
    own = {"RESNETLAB_CACHE": str(place / "cache"), "RAY_TMPDIR": "/tmp", "AWS_SECRET_ACCESS_KEY": SECRET}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH_")}
    return kept | own | more  # a sweep that an earlier test ran in this process has left its token


def command(place, *arguments):
    script = [sys.executable, str(ROOT / "sweeps/ablation.py"), "--study", str(place / "tiny.yaml")]
    return [*script, "--storage", str(place / "results"), *arguments]


def sweep(place, *arguments, **more):
    return subprocess.run(
        command(place, *arguments), env=environment(place, **more), capture_output=True, text=True, timeout=500
    )


def started(place, name, rows, *arguments, **more):
    """Start a sweep and wait until at least `rows` epochs are acknowledged."""
    process = subprocess.Popen(
        command(place, "--name", name, *arguments),
        env=environment(place, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and process.poll() is None:
        if len(epochs(place, name)) >= rows:
            return process
        time.sleep(0.05)
    process.kill()
    raise AssertionError(f"no rows came: {process.communicate()}")


def epochs(place, name):
    table = read_table(ResultsFolder.at(place / "results" / name), "epochs")
    return [] if table is None else list(zip(table["trial_id"].to_pylist(), table["epoch"].to_pylist(), strict=True))


def trials(place, name):
    return {row["trial_id"]: row for row in pq.read_table(place / "results" / name / "trials.parquet").to_pylist()}


def status(place, name):
    """What another process sees of the sweep."""
    words = [sys.executable, str(ROOT / "sweeps/status.py"), str(place / "results" / name), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def straight(place):
    """One sweep, never interrupted, followed by two tools and told to a script."""
    tools = ["--tensorboard", str(place / "tensorboard"), "--mlflow", f"sqlite:///{place / 'mlflow.db'}"]
    done = sweep(place, "--name", "straight", "--json", *tools)
    assert done.returncode == 0, done.stderr
    return done


def test_a_sweep_leaves_tables_figures_and_a_report(place, straight):
    folder = place / "results" / "straight"
    rows = trials(place, "straight")
    explore = [row for row in rows.values() if row["phase"] == "explore"]
    confirm = [row for row in rows.values() if row["phase"] == "confirm"]
    assert len(explore) == 6 and len(confirm) == 2 * 3
    assert {row["status"] for row in confirm} == {"complete"}
    assert {row["status"] for row in explore} <= {"complete", "stopped"}
    assert any(row["status"] == "stopped" for row in explore)
    assert all((row["test_accuracy"] is not None) == (row["phase"] == "confirm") for row in rows.values())
    assert sum(row["epochs_run"] for row in rows.values()) == len(epochs(place, "straight"))
    rungs = pq.read_table(folder / "rungs.parquet").to_pylist()
    assert {row["trial_id"] for row in rungs if row["decision"] == "stop"} == {
        row["trial_id"] for row in explore if row["status"] == "stopped"
    }
    effects = pq.read_table(folder / "effects.parquet").to_pylist()
    assert {row["factor"] for row in effects} == {"kernel", "optimizer"}
    results = Results.open(folder)
    values = dict(zip([arm.name for arm in results.plan.arms], Findings(results).runs.values, strict=True))
    for row in effects:  # so small a network may end at chance level, which is then said
        sides = [values.get(f"{row['factor']}={row[side]}", values["incumbent"]) for side in ("level", "reference")]
        counted = [int(np.isfinite(side).sum()) for side in sides]
        assert [row["n"], row["n_reference"]] == counted
        assert ("are not counted in n" in row["note"]) == (sum(counted) < 4)
        if counted == [2, 2] and any(np.ptp(side) > 0 for side in sides):
            assert row["low"] <= row["estimate"] <= row["high"]
        else:
            assert row["verdict"] == "not estimable" and (row["low"] is None or np.isnan(row["low"]))
    assert (folder / "report.html").stat().st_size > 20_000
    assert list((folder / "figures").glob("*.png")) and list((folder / "figures").glob("*.svg"))
    assert "report.html" in straight.stdout and "Traceback" not in straight.stderr
    assert not list((folder / "checkpoints").iterdir()) and not list((folder / "segments").iterdir())
    assert not [file for file in folder.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]
    (session,) = json.loads((folder / "sweep.json").read_text())["sessions"]
    assert 0 < session["busy_seconds"] <= session["wall_seconds"] * session["slots"]
    assert len(rows) <= session["reports"] <= len(epochs(place, "straight")), "short epochs are reported together"
    assert 0 < session["report_seconds"] < session["wall_seconds"]
    assert session["sampler_seconds"] > 0 and "publish_seconds" in session
    assert "The driver took" in (folder / "report.html").read_text()


def test_what_a_script_is_told_and_what_tools_have_of_it(place, straight):
    said = json.loads(straight.stdout)
    assert (said["state"], said["planned"], said["ended"]) == ("finished", 12, 12)
    assert said["report"].endswith("results/straight/report.html") and len(said["effects"]) == 2
    assert "confirm: 12 of 12 trials ended" in straight.stderr
    rows = trials(place, "straight")
    assert {path.name.split("-")[1] for path in (place / "tensorboard").iterdir()} == set(rows)
    runs = MlflowClient(f"sqlite:///{place / 'mlflow.db'}").search_runs(["1"])
    assert {run.data.tags["resnetlab.trial_id"] for run in runs} == set(rows)
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}


def test_a_finished_sweep_is_continued_without_running_anything(place, straight):
    before = (place / "results" / "straight" / "epochs.parquet").read_bytes()
    done = sweep(place, "--name", "straight")
    assert (
        done.returncode == 0 and "starting Ray" in straight.stderr and "starting Ray" not in done.stdout + done.stderr
    )
    assert (place / "results" / "straight" / "epochs.parquet").read_bytes() == before


def test_another_study_under_the_same_name_is_refused(place, straight):
    done = sweep(place, "--name", "straight", "--trials", "7", "--set", "factors.kernel.levels=[3, 5]", "--seed", "1")
    assert done.returncode == 4
    for word in ("search.trials: 6 in the folder, 7 asked for", "factors.kernel.levels", "seed: 0", "--name"):
        assert word in done.stderr


def test_killed_and_continued_loses_and_repeats_no_epoch(place, straight):
    for rows in (4, 12):
        process = started(place, "killed", rows)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        process.stderr.close()
    acknowledged = epochs(place, "killed")
    done = sweep(place, "--name", "killed")
    assert done.returncode == 0, done.stderr
    assert "comparison" in done.stdout and "sweeps/trial.py" in done.stdout.splitlines()[-1]
    found = epochs(place, "killed")
    assert set(acknowledged) <= set(found) and len(found) == len(set(found))
    rows = trials(place, "killed")
    for trial_id, row in rows.items():
        mine = sorted(epoch for trial, epoch in found if trial == trial_id)
        assert mine == list(range(1, row["epochs_run"] + 1))
        assert row["status"] in ("complete", "stopped")
    assert len(rows) == 6 + 6


def test_a_trial_repeated_elsewhere_gives_the_same_numbers(place, straight):
    """Trials with one config, run in two sweeps with different interleaving, agree to the last bit."""
    if not (place / "results" / "killed").exists():
        pytest.skip("needs the killed sweep")
    one = pq.read_table(place / "results" / "straight" / "epochs.parquet").to_pylist()
    other = pq.read_table(place / "results" / "killed" / "epochs.parquet").to_pylist()
    values = {(row["trial_id"], row["epoch"]): (row["train_loss"], row["val_accuracy"]) for row in one}
    shared = [row for row in other if (row["trial_id"], row["epoch"]) in values]
    assert shared
    for row in shared:
        assert values[row["trial_id"], row["epoch"]] == (row["train_loss"], row["val_accuracy"])


def test_ctrl_c_says_how_to_continue(place, straight):
    process = started(place, "interrupted", 3)
    os.kill(process.pid, signal.SIGSTOP)  # or a fast machine has ended it before anyone has looked
    running = status(place, "interrupted")
    os.kill(process.pid, signal.SIGCONT)
    assert running["state"] == "running" and running["holder"]["pid"] == process.pid and running["next"] is None
    assert sum(running["counts"].values()) and running["epochs"] >= 3
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=500)
    assert process.returncode == 130, err
    assert "continue with: " in err and "ablation.py" in err and "--name interrupted" in err and "Traceback" not in err
    statuses = {row["status"] for row in trials(place, "interrupted").values()}
    assert "interrupted" in statuses and "running" not in statuses
    left = status(place, "interrupted")
    assert left["state"] == "unfinished" and "--name interrupted" in left["next"] and left["holder"] is None


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory):
    """A Ray cluster of two nodes of one CPU each, brought up by cluster/local.sh; the second sees a /mnt of its own.

    (address, whether /mnt is apart, the variables of a client with the token)
    """
    temp, home = Path("/tmp") / f"rl{os.getpid()}", tmp_path_factory.mktemp("home")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env = kept | {"HOME": str(home), "RAY": str(Path(sys.executable).with_name("ray")), "PORT": str(free_port())}
    env |= {"PYTHONPATH": str(ROOT)}
    address = f"127.0.0.1:{env['PORT']}"
    common = ["--num-cpus=1", "--object-store-memory=100000000"]
    head = ["head", "--node-ip-address=127.0.0.1", f"--temp-dir={temp}", f"--ray-client-server-port={free_port()}"]
    head += [f"--min-worker-port={PORTS}", f"--max-worker-port={PORTS + 100}"]
    join = ["join", address, "--node-ip-address=127.0.0.2"]
    join += [f"--min-worker-port={PORTS + 200}", f"--max-worker-port={PORTS + 300}"]
    own = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /mnt && exec "$@"', "sh"]
    apart = shutil.which("unshare") and subprocess.run([*own, "true"], capture_output=True).returncode == 0
    states = [home / "head", home / "join"]
    with reaper.reaped() as ends:  # also where this process is killed
        ends(str(temp))
        try:
            for state, prefix, words in zip(states, ([], own if apart else []), (head, join), strict=True):
                launch = [*prefix, str(ROOT / "cluster/local.sh"), *words, *common]
                subprocess.run(
                    launch, env=env | {"STATE": str(state)}, check=True, stdout=subprocess.DEVNULL, timeout=400
                )
            yield address, bool(apart), {"RAY_AUTH_TOKEN_PATH": str(home / ".ray/auth_token")}
        finally:
            for state in reversed([state for state in states if (state / "pid").exists()]):
                os.killpg(int((state / "pid").read_text()), signal.SIGKILL)
            shutil.rmtree(temp, ignore_errors=True)


def test_a_client_without_the_token_is_refused(place, two_nodes):
    address, _, _ = two_nodes
    nobody = {"HOME": str(place), "RAY_AUTH_TOKEN": ""}
    for variables in ({}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}):
        done = sweep(place, "--name", "stranger", "--address", address, **nobody | variables)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert f"error: --address {address}: the cluster refuses this client: set RAY_AUTH_MODE=token" in done.stderr
        assert not (place / "results/stranger").exists()


def test_two_nodes_share_the_work(place, two_nodes):
    address, _, token = two_nodes
    done = sweep(place, "--name", "cluster", "--address", address, "--nodes", "2", **token)
    assert done.returncode == 0, done.stderr
    rows = trials(place, "cluster")
    assert len(rows) == 12 and {row["status"] for row in rows.values()} <= {"complete", "stopped"}
    (session,) = json.loads((place / "results/cluster/sweep.json").read_text())["sessions"]
    assert session["slots"] == 2
    addresses = {node["address"] for node in session["nodes"]}
    assert len(addresses) == 2 and "127.0.0.2" in addresses
    assert {node["versions"]["torch"] for node in session["nodes"]} == {version("torch")}
    assert "preflight" in done.stdout and version("torch") in done.stdout


@pytest.mark.parametrize(
    ("name", "files", "cut", "rows"),
    [
        ("own-model", ("own-model.yaml", "my_net.py", "my_parts.py"), ("search.trials=4", "confirm.seeds=1"), 2),
        pytest.param(
            "own-task",
            ("own-task.yaml", "my_task.py"),
            ("search.trials=4", "confirm.seeds=2"),
            20,
            marks=pytest.mark.long,
        ),
    ],
)
def test_code_of_one_s_own_travels_to_both_nodes_and_survives_a_kill(
    place, two_nodes, tmp_path, name, files, cut, rows
):
    """The study lies where the second node cannot read it."""
    address, apart, token = two_nodes
    study = (Path("/mnt") / f"resnetlab-{name}-{os.getpid()}") if apart else tmp_path
    study.mkdir(exist_ok=True)
    try:
        for file in files:
            shutil.copy(ROOT / "tests/own_code" / file, study / file)
        settings = [word for each in cut for word in ("--set", each)]
        settings += ["--study", str(study / f"{name}.yaml"), "--address", address, "--nodes", "2"]
        process = started(place, name, rows, *settings, **token)
        process.kill()
        process.communicate()
        before = epochs(place, name)
        done = sweep(place, "--name", name, *settings, **token)
        assert done.returncode == 0, done.stderr
        found = Results.open(place / "results" / name)
        assert set(found.confirm["status"]) == {"complete"} and not found.missing
        after = epochs(place, name)
        assert set(before) <= set(after) and len(after) == len(set(after))
        sessions = json.loads((place / "results" / name / "sweep.json").read_text())["sessions"]
        assert len(sessions) == 2 and all(session["slots"] == len(session["nodes"]) == 2 for session in sessions)
    finally:
        if apart:
            shutil.rmtree(study)


def test_a_local_sweep_starts_a_ray_of_its_own_beside_a_running_cluster(place, two_nodes):
    address, _, _ = two_nodes
    options = ["--trials", "1", "--epochs", "1", "--set", "confirm.design=none"]
    done = sweep(place, "--name", "own", *options, RAY_ADDRESS=address)
    assert done.returncode == 0, done.stderr
    (row,) = trials(place, "own").values()
    assert row["status"] == "complete" and row["host"] == socket.gethostname()
    (session,) = json.loads((place / "results/own/sweep.json").read_text())["sessions"]
    assert session["slots"] == os.cpu_count()


def test_nodes_that_are_not_alike_are_refused_before_the_first_trial(place, two_nodes, tmp_path):
    """One that does not share the storage, and has not the data; one more with another torch."""
    address, apart, token = two_nodes
    if not apart:
        pytest.skip("this machine allows no mount namespaces")
    own = Path("/mnt") / f"resnetlab-{os.getpid()}"
    images_here.make(own / "images", seed=1, each=20)
    study = tmp_path / "images.yaml"
    study.write_text(STUDY.replace("name: glyphs, variants: 2, limit: 600", f"name: folder, root: {own / 'images'}"))
    other = tmp_path / "torch-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.0\n")
    join = ["join", address, "--node-ip-address=127.0.0.3", "--num-cpus=1", "--object-store-memory=100000000"]
    env = (
        os.environ
        | token
        | {"PYTHONPATH": f"{tmp_path}:{ROOT}", "STATE": str(tmp_path / "state"), "RAY_AUTH_TOKEN": ""}
    )
    env |= {"RAY": str(Path(sys.executable).with_name("ray")), "HOME": str(tmp_path)}
    options = ["--study", str(study), "--storage", str(own / "results"), "--name", "x"]
    ports = [f"--min-worker-port={PORTS + 400}", f"--max-worker-port={PORTS + 500}"]
    try:
        subprocess.run([str(ROOT / "cluster/local.sh"), *join, *ports], env=env, check=True, timeout=400)
        done = sweep(place, *options, "--address", address, "--nodes", "3", **token)
        assert done.returncode == 2, done.stderr
        for words in (
            "(127.0.0.2) does not see what the driver wrote",
            f"(127.0.0.2) has no data folder: dataset.root: {own / 'images'}",
            f"(127.0.0.3) has torch 1.0, the driver {version('torch')}: that may alter results",
            "Install the versions of cluster/constraints.txt on every node",
        ):
            assert words in done.stderr
        assert done.stdout.count("refused") == 3 and "Traceback" not in done.stderr
        assert read_table(ResultsFolder.at(own / "results/x"), "epochs") is None
    finally:
        if (tmp_path / "state/pid").exists():
            os.killpg(int((tmp_path / "state/pid").read_text()), signal.SIGKILL)
        shutil.rmtree(own, ignore_errors=True)


def test_a_trial_that_no_node_can_hold_is_refused(place, two_nodes):
    address, _, token = two_nodes
    done = sweep(place, "--name", "big", "--address", address, "--gpus-per-trial", "1", **token)
    assert (
        done.returncode == 2
        and "needs 1 CPU and 1 GPU on one node" in done.stderr
        and "nodes with 1 CPUs and 0 GPUs" in done.stderr
    )
    assert not (place / "results/big").exists()
