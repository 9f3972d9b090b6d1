"""results in an S3 bucket: moto's server, two Ray nodes that reach it over their network

The way to it fails in passing, then for long.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import outcome
from machines import ROOT, Machines, down, up
from nodes import SERVICE
from part_nodes import TRIALS, prepare, refused, table, told

from resnetlab.storage.content_hash import content_hash
from resnetlab.storage.results_folder import ResultsFolder

sys.path.insert(0, str(ROOT / "tests"))
import s3_here


def why_not() -> str | None:
    return s3_here.MISSING or Machines.why_not()


def run(transcript: Any, place: Path) -> None:
    prepare(place)
    with (
        Machines(["n1", "n2"], place, **s3_here.ACCESS) as machines,
        s3_here.S3(SERVICE) as s3,
        s3_here.Way((SERVICE, s3.port)) as way,
    ):
        up(machines, transcript, "n2")
        wanted = _same(transcript, machines, s3)
        _in_passing(transcript, machines, s3, way, wanted)
        _for_long(transcript, machines, s3, way, wanted)
        _one_cannot(transcript, machines, s3)
        down(machines, transcript)


def _same(transcript: Any, machines: Machines, s3: s3_here.S3) -> str:
    local = str(machines.place / "results/same")
    done = machines.on("n1", machines.sweep(str(machines.place / "results"), "--nodes", "2"))
    transcript.check("a sweep into a folder that both mount ends, code 0", done.returncode == 0, told(done))
    wanted = content_hash(ResultsFolder.at(local))
    transcript.say(
        "n1$ python sweeps/ablation.py --address auto --nodes 2 --storage 's3://bkt/results?endpoint_override=…'"
    )
    done = machines.on("n1", machines.sweep(s3.url("whole"), "--nodes", "2"))
    table(transcript, done.stdout)
    transcript.check("the same sweep into the bucket ends, code 0", done.returncode == 0, told(done))
    url = s3.url("whole/same")
    hosts = {row["host"] for row in outcome.rows(url, "trials")}
    transcript.check("both nodes trained trials", hosts == {"n1", "n2"}, hosts)
    transcript.check("its tables hold the same numbers", content_hash(ResultsFolder.at(url)) == wanted)
    for line in done.stdout.splitlines():
        if line.startswith("report:"):
            transcript.say(f"     | {line}")
    done = machines.on("n2", f"python sweeps/report.py '{url}'")
    report = ResultsFolder.at(url).read("report.html")
    transcript.check("report.py remakes the report from the bucket", done.returncode == 0 and bool(report), told(done))
    return wanted


def _in_passing(transcript: Any, machines: Machines, s3: s3_here.S3, way: s3_here.Way, wanted: str) -> None:
    url, log = s3.url("bad/same"), machines.place / "bad.log"
    process = machines.spawn("n1", machines.sweep(s3.url("bad", way.port)), log)
    going = lambda: process.poll() is None  # noqa: E731
    outcome.wait_for(url, 3, going=going)
    way.mode = "bad"
    time.sleep(8)
    failed = way.failed
    way.mode = "closed"
    seen = len(outcome.rows(url, "epochs"))
    time.sleep(15)
    way.mode = "open"
    transcript.say(
        f"$ after 3 epochs 8 s in which {failed} connections fail (503, cut, dropped), then 15 s in which all do"
    )
    code = process.wait(600)
    wrong = outcome.problems(url, TRIALS)
    transcript.check("the sweep ends, code 0", code == 0 and not wrong and failed > 0, (wrong, log.read_text()))
    transcript.check("with the same numbers", content_hash(ResultsFolder.at(url)) == wanted, seen)


def _for_long(transcript: Any, machines: Machines, s3: s3_here.S3, way: s3_here.Way, wanted: str) -> None:
    url, log = s3.url("gone/same"), machines.place / "gone.log"
    sweep = machines.sweep(s3.url("gone", way.port))
    process = machines.spawn("n1", sweep, log)
    seen = outcome.wait_for(url, 3, going=lambda: process.poll() is None)
    way.mode = "closed"
    transcript.say(f"$ after {seen} epochs nothing answers any more")
    began = time.monotonic()
    code = process.wait(600)
    said = log.read_text().strip().splitlines()
    good = code == 75 and "the storage does not answer" in said[-1] and "Traceback" not in log.read_text()
    transcript.check("the sweep ends in order: code 75", good, (code, said))
    transcript.say(f"     | {said[-1]}")
    transcript.say(f"          {time.monotonic() - began:.0f} s after the loss")
    way.mode = "open"
    done = machines.on("n1", sweep)
    wrong = outcome.problems(url, TRIALS)
    transcript.check("the same command goes on to the end, code 0", done.returncode == 0 and not wrong, told(done))
    transcript.check("with the same numbers", content_hash(ResultsFolder.at(url)) == wanted)


def _one_cannot(transcript: Any, machines: Machines, s3: s3_here.S3) -> None:
    machines.on("n2", f"ip route add unreachable {SERVICE}/32")
    done = machines.on("n1", machines.sweep(s3.url("one"), "--nodes", "2"))
    refused(transcript, "a node that does not reach the bucket is refused", done, 2, "n2", "does not answer")
    machines.on("n2", f"ip route del unreachable {SERVICE}/32")
    done = machines.on("n1", machines.sweep(s3.url("one").replace("bkt", "nobody")))
    refused(transcript, "a bucket that is not there is refused", done, 2, "NO_SUCH_BUCKET")
