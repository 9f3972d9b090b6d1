"""Connect to Ray: check the address, start a local Ray or join a cluster, and authenticate."""

from __future__ import annotations

import functools
import locale
import os
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resnetlab.errors import BadRequest, ClusterLost
from resnetlab.paths import user_path
from resnetlab.ray_backend import reaper
from resnetlab.ray_backend.capacity import fitting, in_words
from resnetlab.ray_backend.environment import environment
from resnetlab.study import Resources
from resnetlab.vision.training.accelerator import built_for
from resnetlab.wording import plural

TOKEN_RULE = (
    "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to a file that holds the cluster's token (cluster/README.md)"
)
WORKER_VARIABLES = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "MKL_CBWR": "AUTO",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # numbers GPUs as nvidia-smi and NVML do, not by speed
}
OTHER_GPUS = ("/dev/kfd", "/dev/dri")  # of AMD and Intel, which Ray counts when it has started
VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")  # which GPUs CUDA and ROCm show to a process
NODES_TIMEOUT = 120.0  # seconds that nodes may take to join
SOCKET_PATH_BYTES = 107  # longest path of a Unix socket
FOLDER_BYTES = SOCKET_PATH_BYTES - len("/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")


def check_reachable(address: str | None, resources: Resources, contact: bool = True) -> None:
    """Check, before Ray starts, that a sweep can run at `address` (None: on this machine).

    contact: False checks only how `address` is written.
    Raises BadRequest if nothing listens there, if this machine is too small, or if this process uses Ray already.
    """
    for text in (*sys.argv, str(Path.cwd())):
        try:
            text.encode()  # as Ray does
        except UnicodeEncodeError:
            raise BadRequest(
                f"{text}: is not text in the locale of this command ({locale.getencoding()}), and Ray takes only text; "
                "run it with LC_ALL=C.UTF-8"
            ) from None
    ray = sys.modules.get("ray")
    if contact and ray is not None and ray.is_initialized():
        raise BadRequest("this process is connected to Ray already (call ray.shutdown() first)")
    if address is None:
        cores, gpus = os.cpu_count() or 1, _nvidia_gpus()
        if resources.cpus > cores:
            raise BadRequest(f"resources.cpus: a trial needs {resources.cpus:g} CPUs, this machine has {cores}")
        if resources.needed_gpus > gpus and sys.platform == "linux" and not any(map(os.path.exists, OTHER_GPUS)):
            needs = plural(resources.needed_gpus, "GPU")
            raise BadRequest(f"resources.gpus: a trial needs {needs}, this machine has {gpus or 'none'}")
        hidden = [name for name in VISIBLE if os.environ.get(name, "all").strip() in ("", "-1", "NoDevFiles")]
        if resources.needed_gpus and hidden:
            raise BadRequest(
                f"{hidden[0]}: is {os.environ[hidden[0]]!r}, which hides every GPU from this sweep (allowed: unset, or "
                "the GPUs to use; or resources.gpus: 0)"
            )
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        if address in ("auto", "local"):
            return
        raise BadRequest(f"--address {address}: need `auto` or host:port")
    if not contact:
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise BadRequest(f"--address {address}: cannot connect: {error.strerror or error}") from None


def _nvidia_gpus() -> int:
    """GPUs of NVIDIA on this machine, whether their driver works or not."""
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def _ray_variables(address: str | None) -> dict[str, str]:
    """The environment variables with which Ray is imported and started. BadRequest if it was imported too early.

    Tokens authenticate, unless RAY_AUTH_MODE is set otherwise. A local Ray gets a random token in the environment of
    its processes (Ray itself would put one in the home folder, readable by others); a cluster's token is taken from
    where Ray looks for it. Ray reads the mode when it is imported and the token once, so both stay the same for every
    sweep of a process. A local Ray also starts no workers in advance (Tune starts its own), sends no usage statistics,
    and keeps its files in `temporary_folder`.
    """
    variables: dict[str, str] = {}
    if address is None:
        variables |= {"RAY_prestart_worker_first_driver": "0", "RAY_TMPDIR": str(temporary_folder())}
        variables["RAY_USAGE_STATS_ENABLED"] = os.environ.get("RAY_USAGE_STATS_ENABLED", "0")
    if not os.environ.get("RAY_AUTH_MODE") and (address is None or _has_token()):
        if "ray" in sys.modules and not _imported_with_tokens:
            raise BadRequest(
                "RAY_AUTH_MODE: is not set, and Ray was imported before the sweep, which is when it reads it: set it "
                "before `import ray`, or start the sweep first (allowed: token, disabled)"
            )
        _imported_with_tokens.append(True)
        variables["RAY_AUTH_MODE"] = "token"
    mode = variables.get("RAY_AUTH_MODE") or os.environ.get("RAY_AUTH_MODE")
    if address is None and mode == "token" and not os.environ.get("RAY_AUTH_TOKEN_PATH"):
        variables["RAY_AUTH_TOKEN"] = os.environ.get("RAY_AUTH_TOKEN") or _random_token()
    return variables


_imported_with_tokens: list[bool] = []  # not empty once this process has set RAY_AUTH_MODE=token and imported Ray


@functools.cache
def _random_token() -> str:
    return secrets.token_hex(32)


def _has_token() -> bool:
    """True if Ray will find a token for the cluster."""
    place = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or os.path.expanduser("~/.ray/auth_token"))  # noqa: PTH111
    return bool(os.environ.get("RAY_AUTH_TOKEN")) or place.is_file()


@contextmanager
def connect(
    address: str | None,
    resources: Resources,
    hold: Callable[[str, str, int], None],
    nodes: int = 1,
    tick: Callable[[], None] = lambda: None,
) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Connect to Ray inside a `with` block; yields `ray.nodes`.

    address: of a cluster; None starts a local Ray, which ends with the block, or with this process if it is killed.
    hold: called with name, host and port of each service that must go on answering.
    nodes: how many nodes to wait for, at most `NODES_TIMEOUT` seconds; `tick` is called meanwhile.
    Raises BadRequest if no node has room for a trial, ClusterLost if there is no cluster at `address`.
    """
    with environment(_ray_variables(address)), _local_ray(resources) if address is None else _joined(address):
        import ray

        if address is not None:
            _wait_for(nodes, tick)
        context = ray.get_runtime_context()
        host, _, port = context.gcs_address.rpartition(":")
        hold("its control service", host, int(port))
        for node in ray.nodes():
            if node["NodeID"] == context.get_node_id():
                hold("the node under this sweep", node["NodeManagerAddress"], node["NodeManagerPort"])
        _check_room(ray.nodes(), resources.model_copy(update={"gpus": resources.needed_gpus}))
        yield ray.nodes


@contextmanager
def _local_ray(resources: Resources) -> Iterator[None]:
    """Start a Ray for this process alone, even if another one runs on this machine. It counts the GPUs itself, but for
    that of a Mac."""
    import ray

    with reaper.reaped() as reap:
        how: dict[str, Any] = {"num_gpus": 1} if resources.on_gpu and built_for() == "mps" else {}
        how |= {"include_dashboard": False, "object_store_memory": 256 << 20}
        context = _init("a local Ray", {}, address="local", **how)
        reap(context.address_info["session_dir"])
        try:
            yield
        finally:
            ray.shutdown()


def temporary_folder() -> Path:
    """The folder whose subfolder `ray` holds a local Ray's sockets, logs and spilled objects: $RAY_TMPDIR, else
    $TMPDIR, else /tmp.

    Linux allows 107 bytes for the path of a socket. A TMPDIR that is too long for Ray's sockets, as batch systems often
    set, is passed over; such a RAY_TMPDIR is refused with BadRequest, and so is a machine without a usable folder.
    """
    chosen = os.environ.get("RAY_TMPDIR")
    if chosen:
        folder = user_path(chosen, "RAY_TMPDIR")
        if _too_long(folder):
            raise BadRequest(
                f"RAY_TMPDIR: {folder}: has {len(os.fsencode(folder))} bytes, too many for the sockets in it, whose "
                f"paths can have {SOCKET_PATH_BYTES} (allowed: {FOLDER_BYTES})"
            )
        return folder
    try:
        places = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")]
    except FileNotFoundError as error:
        raise BadRequest(f"TMPDIR: {error.strerror or error}") from None
    for folder in places:
        if not _too_long(folder) and folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise BadRequest(
        f"TMPDIR: {places[0]}: is too long for Ray's sockets, and /tmp cannot be written; set RAY_TMPDIR to a folder "
        f"whose path has at most {FOLDER_BYTES} bytes"
    )


def _too_long(folder: Path) -> bool:
    return len(os.fsencode(folder)) > FOLDER_BYTES


@contextmanager
def _joined(address: str) -> Iterator[None]:
    """Join the cluster at `address` and send it this package."""
    import ray

    import resnetlab

    if os.environ.get("RAY_AUTH_MODE") == "token" and not _has_token():
        raise BadRequest(f"--address {address}: there is no token: {TOKEN_RULE}")
    try:
        _init(f"--address {address}", {"py_modules": [resnetlab]}, address=address)
    except ClusterLost:
        if address == "auto":
            raise BadRequest(
                "--address auto: no Ray cluster runs on this machine (cluster/README.md starts one)"
            ) from None
        raise
    try:
        if not os.environ.get("RAY_AUTH_MODE") and not address.startswith("ray://"):
            raise BadRequest(
                f"--address {address}: the cluster asks for no token: anyone who reaches it can run code on it. Start "
                "it with one (cluster/README.md), or set RAY_AUTH_MODE=disabled to use it as it is"
            )
        yield
    finally:
        ray.shutdown()


def _init(where: str, more: Mapping[str, Any], **options: Any) -> Any:
    """Call `ray.init` and return its context. where: names the cluster in messages. more: for the runtime environment.

    Raises ClusterLost if it cannot connect, BadRequest if the cluster refuses this client, after Ray's 20 seconds.
    """
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        return ray.init(runtime_env={"env_vars": WORKER_VARIABLES, **more}, **quiet, **options)
    except (ConnectionError, RuntimeError, TimeoutError) as error:
        errors = (error, error.__cause__, error.__context__)
        messages = [str(each).strip() for each in errors if each is not None]
        if any("AuthenticationError" in text for text in messages):
            raise BadRequest(f"{where}: the cluster refuses this client: {TOKEN_RULE}") from None
        first = next((text for text in messages if text), type(error).__name__).splitlines()[0]
        raise ClusterLost(f"{where}: cannot connect: {first}") from None
    except OSError as error:
        place = os.environ.get("RAY_TMPDIR", "its temporary folder")
        raise BadRequest(f"{where}: cannot use {place}: {error.strerror or error} (RAY_TMPDIR names another)") from None
    except Exception as error:
        if type(error) is not Exception:  # the bare class is what Ray raises if its own node is not up in time
            raise
        raise ClusterLost(f"{where}: did not start: {str(error).strip().splitlines()[0]}") from None


def _wait_for(count: int, tick: Callable[[], None]) -> None:
    """Wait until the cluster has `count` nodes, at most `NODES_TIMEOUT` seconds: later ones are used when they join."""
    import ray

    deadline = time.monotonic() + NODES_TIMEOUT
    while sum(node["Alive"] for node in ray.nodes()) < count and time.monotonic() < deadline:
        tick()
        time.sleep(0.5)


def _check_room(nodes: list[dict[str, Any]], resources: Resources) -> None:
    """Raise BadRequest if no node has room for a trial."""
    if not any(fitting(node, resources) for node in nodes):
        have = ", ".join(
            f"{int(node['Resources'].get('CPU', 0))} CPUs and {int(node['Resources'].get('GPU', 0))} GPUs"
            for node in nodes
            if node["Alive"]
        )
        raise BadRequest(
            f"resources: a trial needs {in_words(resources)} on one node; the cluster has nodes with {have}"
        )
