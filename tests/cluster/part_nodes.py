"""two and three Ray nodes, each a host of its own that is reached over ssh

Brought up and ended by cluster/local.sh as it is.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import outcome
from machines import OPTIONS, ROOT, Machines, down, up

from resnetlab.storage.content_hash import content_hash
from resnetlab.storage.results_folder import ResultsFolder

sys.path.insert(0, str(ROOT / "tests"))
import images_here

STUDY = """
dataset: {{name: folder, root: {images}}}
baseline: {{blocks: 1, width: 8, downsample: 1, batch_size: 32, lr: 0.1}}
arms:
  kernel-1: {{kernel: 1}}
  kernel-3: {{kernel: 3}}
  plain: {{shortcut: false}}
search: {{epochs: 10}}
confirm: {{design: arms, seeds: 2}}
"""
TRIALS = 3 * 2
why_not = Machines.why_not


def run(transcript: Any, place: Path) -> None:
    prepare(place)
    images_here.make(place / "images-other", seed=2)
    for name in ("results", "results-other"):
        (place / name).mkdir()
    other = place / "other/torch-1.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.0\n")
    with Machines(["n1", "n2", "n3"], place) as machines:
        up(machines, transcript, "n2")
        _tokens(transcript, machines)
        wanted = _two(transcript, machines)
        _cut(transcript, machines, wanted)
        _other_data_and_storage(transcript, machines)
        _other_torch(transcript, machines)
        _driver_dies(transcript, machines, wanted)
        down(machines, transcript)


def prepare(place: Path) -> None:
    """The study, whose tables do not depend on who ran which trial when, and its images."""
    images = images_here.make(place / "images", seed=1, each=120)
    (place / "study.yaml").write_text(STUDY.format(images=images))


def told(done: subprocess.CompletedProcess[str]) -> str:
    return f"code {done.returncode}: {done.stdout[-1500:]}{done.stderr}"


def table(transcript: Any, said: str) -> None:
    """Put the preflight's table into the transcript."""
    lines = said.splitlines()
    first = next((number for number, line in enumerate(lines) if line.strip() == "preflight"), len(lines))
    last = next((number for number, line in enumerate(lines) if line.startswith("free memory")), first - 1)
    for line in lines[first : last + 1]:
        transcript.say(f"     | {line.rstrip()}")


def refused(transcript: Any, what: str, done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """Check that a command was refused with `code` and a message with `words`, and show it."""
    good = done.returncode == code and all(word in done.stderr for word in words) and "Traceback" not in done.stderr
    transcript.check(f"{what}: code {code}", good, told(done))
    for line in done.stderr.strip().splitlines():
        transcript.say(f"     | {line}")


def _tokens(transcript: Any, machines: Machines) -> None:
    sweep = machines.sweep(str(machines.place / "results/token"))
    for how, before in (
        ("without RAY_AUTH_MODE=token", "RAY_AUTH_MODE=disabled"),
        ("without a token", "RAY_AUTH_TOKEN_PATH=/tmp/none"),
        ("with a token that is wrong", "RAY_AUTH_TOKEN_PATH=/tmp/wrong"),
    ):
        line = sweep.replace("RAY_AUTH_MODE=token", f"RAY_AUTH_MODE=token {before}")
        done = machines.on("n2", f"printf %064d 0 > /tmp/wrong && {line}", timeout=120)
        refused(transcript, f"a sweep {how} is refused", done, 2, "token")
    done = machines.on("n3", f"cluster/local.sh join {machines.address['n1']}:6380")
    transcript.check(
        "a node without the token does not join", done.returncode == 2 and "holds no token" in done.stderr, done
    )
    done = machines.on("n3", f"printf %064d 0 > /tmp/token && cluster/local.sh join {machines.address['n1']}:6380")
    transcript.check("a node with a wrong token does not join", done.returncode == 1, told(done))


def _two(transcript: Any, machines: Machines) -> str:
    url = str(machines.place / "results/two/same")
    transcript.say("n2$ python sweeps/ablation.py --address auto --nodes 2 --storage …/two")
    done = machines.on("n2", machines.sweep(str(machines.place / "results/two"), "--nodes", "2"))
    table(transcript, done.stdout)
    transcript.check("the sweep ends, code 0", done.returncode == 0, told(done))
    hosts = {row["host"] for row in outcome.rows(url, "trials")}
    transcript.check("both nodes trained trials", hosts == {"n1", "n2"} and not outcome.problems(url, TRIALS), hosts)
    return content_hash(ResultsFolder.at(url))


def _cut(transcript: Any, machines: Machines, wanted: str) -> None:
    join_third(transcript, machines)
    url, log = str(machines.place / "results/three/same"), machines.place / "three.log"
    sweep = machines.sweep(str(machines.place / "results/three"), "--nodes", "3")
    transcript.say("n1$ python sweeps/ablation.py --address auto --nodes 3 --storage …/three")
    process = machines.spawn("n1", sweep, log)
    on_third = lambda: any(row["host"] == "n3" for row in outcome.rows(url, "trials"))  # noqa: E731
    while process.poll() is None and not on_third():
        time.sleep(0.2)
    seen = outcome.wait_for(url, 4, going=lambda: process.poll() is None)
    before = outcome.keys(url)
    machines.cut("n3")
    transcript.say(f"$ ip -n n3 link set eth0 down   # after {seen} epochs, with a trial on n3")
    began = time.monotonic()
    code = process.wait(600)
    wrong = outcome.problems(url, TRIALS)
    transcript.check(
        "the sweep ends on the two that are left, code 0", code == 0 and not wrong, (wrong, log.read_text())
    )
    transcript.say(f"          {time.monotonic() - began:.0f} s after the cut")
    for line in log.read_text().splitlines():
        if "its process died" in line:
            transcript.say(f"     | {line}")
    transcript.check("no epoch that was acknowledged is lost or stands twice", before <= outcome.keys(url), wrong)
    transcript.check("every number is as on two nodes", content_hash(ResultsFolder.at(url)) == wanted)
    machines.mend("n3")
    machines.on("n3", "cluster/local.sh stop")


def join_third(transcript: Any, machines: Machines, before: str = "") -> None:
    """n3 joins by hand, with the token copied to it; `before` stands before the command."""
    token = machines.on("n1", "cat /tmp/token").stdout.strip()
    address = f"{machines.address['n1']}:6380"
    done = machines.on(
        "n3", f"umask 077; echo {token} > /tmp/token; {before} cluster/local.sh join {address} {OPTIONS}"
    )
    transcript.say(f"n3$ {before} cluster/local.sh join {address}".replace("$  ", "$ "))
    transcript.check("n3 joins", done.returncode == 0, told(done))


def _other_data_and_storage(transcript: Any, machines: Machines) -> None:
    join_third(transcript, machines)
    place = machines.place
    sweep = machines.sweep(str(place / "results/refused"), "--nodes", "3")
    machines.on("n3", f"mount --bind {place}/images-other {place}/images")
    done = machines.on("n1", sweep)
    refused(
        transcript, "a node with other files at the data's place is refused", done, 3, "n3", "data folder with hash"
    )
    machines.on("n3", f"umount {place}/images && mount --bind {place}/results {place}/results")
    machines.on("n3", f"mount -o remount,ro,bind {place}/results")
    done = machines.on("n1", sweep)
    refused(transcript, "a node that cannot write the storage is refused", done, 2, "n3", "cannot write: ", "Read-only")
    machines.on("n3", f"umount {place}/results && mount --bind {place}/results-other {place}/results")
    done = machines.on("n1", sweep)
    refused(transcript, "a node with another folder there is refused", done, 2, "n3", "does not see what the driver")
    machines.on("n3", f"umount {place}/results; cluster/local.sh stop")
    wait_for_nodes(machines, 2)


def wait_for_nodes(machines: Machines, number: int) -> None:
    code = (
        "import ray, time; ray.init(address='auto', log_to_driver=False, logging_level='ERROR')\n"
        f"while sum(node['Alive'] for node in ray.nodes()) != {number}: time.sleep(0.5)"
    )
    machines.on("n1", f'RAY_AUTH_MODE=token python -c "{code}"', timeout=120)


def _other_torch(transcript: Any, machines: Machines) -> None:
    place = machines.place
    other = f"PYTHONPATH={place}/other:$PYTHONPATH"
    join_third(transcript, machines, other)
    done = machines.on("n1", machines.sweep(str(place / "results/torch"), "--nodes", "3"))
    table(transcript, done.stdout)
    refused(transcript, "a node with another torch is refused", done, 2, "n3", "torch 1.0", "may alter results")
    machines.on("n3", "cluster/local.sh stop")
    wait_for_nodes(machines, 2)
    sweep = machines.sweep(str(place / "results/late"), "--set", "search.epochs=200")
    url, log = str(place / "results/late/same"), place / "late.log"
    process = machines.spawn("n1", sweep, log)
    outcome.wait_for(url, 2, going=lambda: process.poll() is None)
    join_third(transcript, machines, other)
    code = process.wait(300)
    said = log.read_text()
    good = code == 2 and "joined during the sweep, has torch 1.0" in said and "continue with" in said
    transcript.check("one that joins a running sweep ends it in order: code 2", good, said)
    transcript.say(f"     | {said.strip().splitlines()[-1]}")
    machines.on("n3", "cluster/local.sh stop")
    wait_for_nodes(machines, 2)
    done = machines.on("n1", sweep)
    transcript.check("without it the sweep goes on to its end", not outcome.problems(url, TRIALS), told(done))


def _driver_dies(transcript: Any, machines: Machines, wanted: str) -> None:
    url, log = str(machines.place / "results/held/same"), machines.place / "held.log"
    sweep = machines.sweep(str(machines.place / "results/held"))
    process = machines.spawn("n2", sweep, log)
    seen = outcome.wait_for(url, 4, going=lambda: process.poll() is None)
    before = outcome.keys(url)
    machines.kill("n2")
    machines.cut("n2")
    transcript.say(f"$ n2, where the sweep was started, loses its power after {seen} epochs; at once the same on n1:")
    began = time.monotonic()
    done = machines.on("n1", sweep)
    held = "held by a sweep that may be dead (host n2" in done.stderr
    transcript.check("the sweep waits for the lease of the dead driver", held, told(done))
    transcript.say(f"     | {done.stderr.strip().splitlines()[0] if done.stderr.strip() else ''}")
    wrong = outcome.problems(url, TRIALS)
    transcript.check("and goes on to its end, code 0", done.returncode == 0 and not wrong, (wrong, told(done)))
    transcript.say(f"          {time.monotonic() - began:.0f} s after the loss")
    same = before <= outcome.keys(url) and content_hash(ResultsFolder.at(url)) == wanted
    transcript.check("no acknowledged epoch is lost, and every number is as on two nodes", same)
