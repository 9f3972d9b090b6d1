"""a job over two nodes of a real Slurm, each with a network address of its own

The script is cluster/slurm/sweep.sbatch as it is.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import outcome
from nodes import Nodes
from slurm import Slurm

ROOT = Path(__file__).resolve().parents[2]
TRIALS = 6 + 2 * 3
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")


def why_not() -> str | None:
    return Nodes.why_not() or Slurm.why_not()


def run(transcript: Any, place: Path) -> None:
    names = ["n1", "n2"]
    with Nodes(names, place / "log") as nodes, Slurm(nodes, place / "slurm") as slurm:
        transcript.say(subprocess.run(["sinfo", "--version"], capture_output=True, text=True).stdout.strip())
        _to_the_end(transcript, place, nodes, slurm)
        _queued_again(transcript, place, nodes, slurm)
        _near_the_limit(transcript, place, slurm)
        _without_a_node(transcript, place, nodes, slurm)
        _without_its_driver(transcript, place, nodes, slurm)


def _submit(slurm: Slurm, place: Path, name: str, *more: str, nodes: int = 2) -> str:
    env = {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "RESNETLAB": str(ROOT), "RESNETLAB_CACHE": "/tmp/cache"}
    options = [f"--nodes={nodes}", "--cpus-per-task=1", f"--output={place}/{name}.log", f"--job-name={name}"]
    sweep = ["--study", str(place / "tiny.yaml"), "--storage", str(place / "results"), "--name", name, *more]
    return slurm.submit(*options, str(ROOT / "cluster/slurm/sweep.sbatch"), *sweep, cwd=place, env=env)


def _under_way(slurm: Slurm, url: str, job: str, epochs: int) -> int:
    """Wait until the job has trained so many epochs; their number."""
    return outcome.wait_for(url, epochs, going=lambda: slurm.job(job).get("JobState") not in ENDED)


def _log(place: Path, name: str) -> str:
    path = place / f"{name}.log"
    return path.read_text() if path.exists() else ""


def _rays(nodes: Nodes) -> str:
    """Processes of Ray that live on the nodes."""
    found = ""
    for name in nodes.names:
        found += "".join(line for line in nodes.processes(name).values() if "raylet" in line or "gcs_server" in line)
    return found


def _to_the_end(transcript: Any, place: Path, nodes: Nodes, slurm: Slurm) -> None:
    job = _submit(slurm, place, "whole", "--set", "search.epochs=40")  # long enough to ask it something
    url = str(place / "results/whole")
    transcript.say(f"$ sbatch --nodes=2 cluster/slurm/sweep.sbatch --study tiny --name whole   # job {job}")
    _under_way(slurm, url, job, 2)
    answer = _refused(nodes)
    denied = "AuthenticationError" in answer or "InvalidAuthToken" in answer  # Ray says the one or the other
    transcript.check("the running cluster refuses a client with another token", denied, answer)
    state = slurm.wait(job, ENDED)
    log = _log(place, "whole")
    transcript.check("the job ends as COMPLETED, code 0", state == "COMPLETED", (state, log))
    transcript.check(f"{TRIALS} trials, each complete or stopped", not outcome.problems(url, TRIALS), log)
    hosts = {row["host"] for row in outcome.rows(url, "trials")}
    transcript.check("both nodes trained trials", hosts == set(nodes.names), hosts)
    transcript.check("the log ends with the report's place", "report.html" in log, log)
    deadline = time.monotonic() + 15
    while _rays(nodes) and time.monotonic() < deadline:
        time.sleep(0.5)
    transcript.check("no Ray is left on the nodes", not _rays(nodes), _rays(nodes))


def _refused(nodes: Nodes) -> str:
    """How a connection with a wrong token is answered on a node."""
    lines = " ".join(nodes.processes("n1").values())
    port = re.search(r"--gcs_server_port=(\d+)", lines)
    if port is None:
        return f"no cluster: {lines}"
    env = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}
    code = f"import ray; ray.init(address='{nodes.address['n1']}:{port[1]}', log_to_driver=False)"
    return nodes.run("n1", [sys.executable, "-c", code], env=env, timeout=120).stderr


def _queued_again(transcript: Any, place: Path, nodes: Nodes, slurm: Slurm) -> None:
    job = _submit(slurm, place, "again")
    url = str(place / "results/again")
    seen = _under_way(slurm, url, job, 5)
    before = outcome.keys(url)
    slurm.call("scontrol", "requeue", job)
    transcript.say(f"$ scontrol requeue {job}   # after {seen} epochs, as preemption does it")
    slurm.wait(job, ("RUNNING",))
    state = slurm.wait(job, ENDED)
    transcript.check("the same job runs again and ends as COMPLETED", state == "COMPLETED", _log(place, "again"))
    wrong = outcome.problems(url, TRIALS)
    transcript.check(
        "no epoch that was acknowledged is lost or stands twice", before <= outcome.keys(url) and not wrong, wrong
    )


def _near_the_limit(transcript: Any, place: Path, slurm: Slurm) -> None:
    job = _submit(slurm, place, "limit")
    url = str(place / "results/limit")
    seen = _under_way(slurm, url, job, 5)
    slurm.call("scancel", "--batch", "--signal=USR1", job)
    transcript.say(
        f"$ scancel --batch --signal=USR1 {job}   # after {seen} epochs, the signal that comes before the time limit"
    )
    slurm.wait(job, ("PENDING",))
    statuses = {row["status"] for row in outcome.rows(url, "trials")}
    in_order = "interrupted" in statuses and "running" not in statuses
    transcript.check("the sweep ends in order and the job is queued again", in_order, statuses)
    state = slurm.wait(job, ENDED)
    wrong = outcome.problems(url, TRIALS)
    transcript.check("the sweep goes on to its end", state == "COMPLETED" and not wrong, (wrong, _log(place, "limit")))


def _without_a_node(transcript: Any, place: Path, nodes: Nodes, slurm: Slurm) -> None:
    job = _submit(slurm, place, "cut")
    url = str(place / "results/cut")
    seen = _under_way(slurm, url, job, 4)
    nodes.cut("n2")
    transcript.say(f"$ ip -n n2 link set eth0 down   # after {seen} epochs of job {job}")
    state = slurm.wait(job, ENDED)
    wrong = outcome.problems(url, TRIALS)
    transcript.check(
        "the sweep ends on the node that is left",
        state == "COMPLETED" and not wrong,
        (state, wrong, _log(place, "cut")),
    )
    nodes.mend("n2")
    slurm.wait_for_all()


def _without_its_driver(transcript: Any, place: Path, nodes: Nodes, slurm: Slurm) -> None:
    """The node under the driver loses its power: Slurm queues the job again, and its lease is still there."""
    job = _submit(slurm, place, "held", nodes=1)
    url = str(place / "results/held")
    seen = _under_way(slurm, url, job, 4)
    before = outcome.keys(url)
    lost = slurm.job(job)["NodeList"]
    nodes.kill(lost)
    nodes.cut(lost)
    transcript.say(f"$ {lost}, the only node of job {job}, loses its power after {seen} epochs")
    state = slurm.wait(job, ENDED)
    log = _log(place, "held")
    transcript.check(
        "Slurm queues the job again, and it ends as COMPLETED on the other node", state == "COMPLETED", log
    )
    held = [line for line in log.splitlines() if "held by a sweep that may be dead" in line]
    transcript.check("it waits for the lease of the dead driver", bool(held), log)
    transcript.say("".join(f"     | {line}\n" for line in held))
    wrong = outcome.problems(url, TRIALS)
    transcript.check(
        "no epoch that was acknowledged is lost or stands twice", before <= outcome.keys(url) and not wrong, wrong
    )
