"""Closed doors: what a cluster of local.sh answers without its token, what with it, and where the token is not

One head with the dashboard (ray[default], installed beside the project's packages), a sweep that joins it, and the same
head without a token as a control, which shows that the questions can find an open door.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import endpoints
from nodes import Nodes
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 300
SWEEP = ["--trials", "2", "--epochs", "2", "--set", "confirm.design=none"]


def why_not() -> str | None:
    return None if shutil.which("ss") else "ss (iproute2) lists the sockets"


def run(transcript: Any, place: Path) -> None:
    _firewall(transcript)
    packages = _dashboard(place)
    head = _Head(place / "closed", packages, token=True)
    try:
        found = _listening(transcript, head)
        _clients(transcript, place, head)
        _secrets(transcript, place, head)
    finally:
        head.stop()
    open_head = _Head(place / "open", packages, token=False)
    try:
        _control(transcript, open_head, found)
    finally:
        open_head.stop()


def main() -> None:
    """`python tests/cluster/part_doors.py`: this part alone, and its transcript into cluster/transcript.md."""
    from run import STUDY, Transcript, write

    transcript = Transcript()
    transcript.say(
        f"Ray {version('ray')} with ray[default], {platform.system()} {platform.release()}, {os.cpu_count()} cores"
    )
    place = Path(tempfile.mkdtemp(prefix="resnetlab-doors-", dir="/var/tmp"))
    (place / "tiny.yaml").write_text(STUDY)
    run(transcript, place)
    if not transcript.failed:
        shutil.rmtree(place)
        write(transcript.lines, "<!-- doors -->", "<!-- end of doors -->")
    sys.exit(transcript.failed)


def _dashboard(place: Path) -> str:
    """A folder with what ray[default] needs besides what is here."""
    wanted = [Requirement(line) for line in requires("ray") or []]
    names = [
        str(one).split(";")[0].strip() for one in wanted if one.marker and one.marker.evaluate({"extra": "default"})
    ]
    target = place / "packages"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target), *names],
        check=True,
        capture_output=True,
    )
    for name in ("numpy", "pydantic", "pydantic_core", "ray"):  # those that are here already are the ones to use
        for found in target.glob(f"{name}*"):
            shutil.rmtree(found, ignore_errors=True)
    return str(target)


def _free() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class _Head:
    """A head node, started by local.sh, or without a token as `ray start` would."""

    def __init__(self, place: Path, packages: str, token: bool):
        self.place, self.port, self.dashboard = place, _free(), _free()
        place.mkdir()
        self.temp = Path("/tmp") / f"rl-doors-{os.getpid()}-{'closed' if token else 'open'}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.env = kept | {
            "HOME": str(place),
            "PYTHONPATH": os.pathsep.join([str(ROOT), packages]),
            "RESNETLAB_CACHE": str(place / "cache"),
            "RAY": str(Path(sys.executable).with_name("ray")),
            "PORT": str(self.port),
            "DASHBOARD": "1",
        }
        options = [
            f"--dashboard-port={self.dashboard}",
            f"--ray-client-server-port={_free()}",
            f"--temp-dir={self.temp}",
        ]
        options += ["--num-cpus=2", "--object-store-memory=200000000"]
        if token:
            subprocess.run(
                [ROOT / "cluster/local.sh", "head", *options], env=self.env, check=True, stdout=subprocess.DEVNULL
            )
            self.pid = int((place / ".resnetlab-cluster" / os.uname().nodename / "pid").read_text())
        else:
            words = [self.env["RAY"], "start", "--head", "--block", f"--port={self.port}", "--dashboard-host=127.0.0.1"]
            self.env["RAY_AUTH_MODE"] = "disabled"
            with (place / "log").open("w") as log:
                self.pid = subprocess.Popen([*words, *options], env=self.env, stdout=log, stderr=log).pid
            _until(lambda: "Ray runtime started" in (place / "log").read_text())

    @property
    def token(self) -> str:
        return (self.place / ".ray/auth_token").read_text()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def stop(self) -> None:
        processes = endpoints.descendants(self.pid)
        os.kill(self.pid, 15)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and any(Path(f"/proc/{pid}/exe").exists() for pid in processes):
            time.sleep(0.2)
        shutil.rmtree(self.temp, ignore_errors=True)


def _until(holds: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("Ray did not start")
        time.sleep(0.2)


def _sweep(head: _Head, place: Path, *more: str, **variables: str) -> subprocess.Popen:
    words = [sys.executable, str(ROOT / "sweeps/ablation.py"), "--study", str(place / "tiny.yaml"), *SWEEP, *more]
    words += ["--storage", str(place / "results"), "--address", head.address]
    own = head.env | {"HOME": str(place)} | variables
    return subprocess.Popen(words, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _with_token(head: _Head) -> dict[str, str]:
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(head.place / ".ray/auth_token")}


def _listening(transcript: Any, head: _Head) -> list[endpoints.Endpoint]:
    """Every socket, while a driver and its workers run beside the cluster's own processes."""
    code = (
        "import ray, sys, time; ray.init(address=sys.argv[1], log_to_driver=False)\n"
        "Worker = ray.remote(type('Worker', (), {'go': lambda self: None}))\n"
        "workers = [Worker.remote() for _ in range(2)]; ray.get([one.go.remote() for one in workers])\n"
        "print('up', flush=True); time.sleep(600)"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", code, head.address],
        env=head.env | _with_token(head), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        assert driver.stdout is not None and driver.stdout.readline() == "up\n"
        found = endpoints.listening(endpoints.descendants(head.pid) | {driver.pid: "the driver"})
        for one in found:
            endpoints.probe(one)
    finally:
        driver.kill()
        driver.wait()
    transcript.say("$ DASHBOARD=1 cluster/local.sh head   # every listening socket, asked without the token")
    transcript.say("\n".join(f"  {line}" for line in endpoints.table(found)))
    controls = [f"{one.owner} {one.address}: {', '.join(one.control)}" for one in found if one.beyond and one.control]
    asked = sum(one.refused for one in found)
    transcript.check(
        f"no control endpoint beyond loopback answers without the token ({asked} questions refused)",
        not controls,
        controls,
    )
    dashboards = [one for one in found if one.address.endswith(f":{head.dashboard}")]
    transcript.check(
        "the dashboard listens on loopback alone", [one.beyond for one in dashboards] == [False], dashboards
    )
    transcript.check("there it answers its page and its health alone", not dashboards[0].control, dashboards)
    return found


def _clients(transcript: Any, place: Path, head: _Head) -> None:
    for how, variables in (("no token", {}), ("another token", {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64})):
        done = _sweep(head, place, **variables)
        _, err = done.communicate(timeout=PATIENCE)
        refused = done.returncode == 2 and "the cluster refuses this client" in err and "Traceback" not in err
        transcript.check(f"driver: a sweep with {how} is refused, exit 2", refused, err)
    url = f"http://127.0.0.1:{head.dashboard}"
    job = [head.env["RAY"], "job", "submit", f"--address={url}", "--", "true"]
    done = subprocess.run(job, env=head.env | {"HOME": str(place)}, capture_output=True, text=True, timeout=PATIENCE)
    refused = done.returncode != 0 and "succeeded" not in done.stdout and "uthenti" in done.stdout + done.stderr
    transcript.check("job API: `ray job submit` without the token is refused", refused, done.stdout + done.stderr)
    codes = {
        path: endpoints.status(url.removeprefix("http://"), "GET", path)
        for path in ("/api/jobs/", "/nodes", "/api/actors")
    }
    transcript.check("dashboard: its API answers 401 without the token", set(codes.values()) == {401}, codes)
    done = subprocess.run(job, env=head.env | _with_token(head), capture_output=True, text=True, timeout=PATIENCE)
    transcript.check("job API: with the token the job runs", "succeeded" in done.stdout, done.stdout + done.stderr)


def _secrets(transcript: Any, place: Path, head: _Head) -> None:
    """A sweep with the token, and where the token stands while it runs and afterwards."""
    secret, seen = head.token, []
    done = _sweep(head, place, **_with_token(head))
    while done.poll() is None:
        seen += [line for line in _command_lines() if secret in line]
        time.sleep(0.2)
    out, err = done.communicate()
    transcript.check("driver: with the token the sweep runs to its end", done.returncode == 0, err)
    transcript.check("the token is in no process's arguments", not seen, seen[:1])
    places = [place / "results", head.temp, head.place / ".resnetlab-cluster"]
    files = [file for root in places for file in root.rglob("*") if file.is_file() and not file.is_symlink()]
    holding = [str(file) for file in files if secret.encode() in file.read_bytes()]
    said = secret in out + err
    transcript.check(
        f"nor in any of {len(files)} files of results, logs and Ray's session", not holding and not said, holding
    )
    mode = oct((head.place / ".ray/auth_token").stat().st_mode & 0o777)
    transcript.check("the token's file has mode 600", mode == "0o600", mode)


def _command_lines() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return found


def _firewall(transcript: Any) -> None:
    """The committed rules, in a network namespace with one end inside the cluster's network and one outside."""
    if not shutil.which("nft") or Nodes.why_not():
        transcript.say(f"  skipped: the firewall's rules ({Nodes.why_not() or 'no nft'})")
        return
    space = f"rl{os.getpid()}fw"
    ends = {"inside": "10.0.0", "outside": "10.0.1"}

    def inside(*words: str, name: str = space) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["ip", "netns", "exec", name, *words], capture_output=True, text=True, timeout=30)

    spaces = [space, *(f"{space}{end}" for end in ends)]
    serve = None
    try:
        for name in spaces:
            subprocess.run(["ip", "netns", "add", name], check=True)
        for number, (end, net) in enumerate(ends.items()):
            link = f"rl{os.getpid() % 10000}{number}"
            pair = [
                "ip",
                "link",
                "add",
                link,
                "netns",
                space,
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "netns",
                f"{space}{end}",
            ]
            subprocess.run(pair, check=True)
            inside("ip", "addr", "add", f"{net}.1/24", "dev", link)
            inside("ip", "link", "set", link, "up")
            inside("ip", "addr", "add", f"{net}.2/24", "dev", "eth0", name=f"{space}{end}")
            inside("ip", "link", "set", "eth0", "up", name=f"{space}{end}")
        serve = subprocess.Popen(
            ["ip", "netns", "exec", space, sys.executable, "-c", LISTEN], stdout=subprocess.PIPE, text=True
        )
        assert serve.stdout is not None and serve.stdout.readline()

        def reach(end: str, port: int) -> bool:
            code = f"import socket; socket.create_connection(('{ends[end]}.1', {port}), timeout=2)"
            return inside(sys.executable, "-c", code, name=f"{space}{end}").returncode == 0

        asked = [(end, port) for end in ends for port in (22, 6380)]
        before = {one: reach(*one) for one in asked}
        done = inside("nft", "-f", str(ROOT / "cluster/firewall.nft"))
        after = {one: reach(*one) for one in asked}
        transcript.say(
            "$ nft -f cluster/firewall.nft   # on a node with one neighbour in the cluster's network and one outside"
        )
        wanted = dict.fromkeys(asked, True) | {("outside", 6380): False}
        right = all(before.values()) and after == wanted and done.returncode == 0
        transcript.check(
            "Ray's port answers inside and no longer outside, SSH both", right, (before, after, done.stderr)
        )
    finally:
        if serve is not None:
            serve.kill()
            serve.wait()
        for name in spaces:
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


LISTEN = """
import socket, time
servers = [socket.create_server(("0.0.0.0", port)) for port in (22, 6380)]
print("up", flush=True)
time.sleep(120)
"""


def _control(transcript: Any, head: _Head, closed: list[endpoints.Endpoint]) -> None:
    done = _sweep(head, head.place.parent, "--name", "open", HOME=str(head.place), RAY_AUTH_MODE="")
    _, err = done.communicate(timeout=PATIENCE)
    asks = done.returncode == 2 and "the cluster asks for no token" in err
    transcript.say("$ RAY_AUTH_MODE=disabled ray start --head   # the same questions, as a control")
    transcript.check("a sweep does not join a cluster that asks for no token, exit 2", asks, err)
    found = endpoints.settled(head.pid)
    for one in found:
        endpoints.probe(one)
    doors = sum(len(one.control) for one in found if one.beyond)
    transcript.check(f"without a token {doors} control methods answer, before they have ended Ray", doors > 10, found)


if __name__ == "__main__":
    main()
