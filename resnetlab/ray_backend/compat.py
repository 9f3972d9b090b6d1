"""The private names of Ray that this package uses, looked up in one place.

A release of Ray may rename or remove them without notice. Where one is gone, the error says which, and names the
installed version and those that were tested (`make test-versions`, docs/versions.md).
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from operator import attrgetter
from typing import Any

from resnetlab.errors import BadRequest

TESTED = {"ray": ("2.52.0", "2.60.0")}  # oldest and newest

BOOTSTRAP = ("ray._private.services", "canonicalize_bootstrap_address")
CLIENT = ("ray._raylet", "GcsClient")
CONTROLLER = (
    "ray.tune.execution.tune_controller",
    "RayActorError",
    "TuneController._mark_trial_to_checkpoint",
    "TuneController.checkpoint",
    "TuneController.on_step_end",
)
ACTORS = ("ray.air.execution._internal.actor_manager", "RayActorError")
LOOP = ("ray.tune.tune", "TuneController")
NODE = ("ray._private.node", "Node")
SETTINGS = ("ray._raylet", "AuthenticationTokenLoader.instance", "Config.initialize")
ALL = (BOOTSTRAP, CLIENT, CONTROLLER, ACTORS, LOOP, NODE, SETTINGS)
OF_A_CONTROLLER = ("_trials", "_live_trials", "_stopped_trials", "_failed_trials")


def private(module: str, *names: str) -> Any:
    """Import `module` and check that it has `names` ("Class.method" too); BadRequest where something is missing."""
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise _missing(module, module) from error
    check(found, module, *names)
    return found


def check(found: object, where: str, *names: str) -> None:
    """BadRequest where `found`, which is called `where` in the message, lacks one of `names`."""
    for name in names:
        try:
            attrgetter(name)(found)
        except AttributeError as error:
            raise _missing(where, f"{where}.{name}") from error


def _missing(where: str, name: str) -> BadRequest:
    package = where.partition(".")[0]
    oldest, newest = TESTED[package]
    return BadRequest(
        f"{package} {version(package)} has no {name}, which resnetlab needs. Tested with {package} {oldest} to "
        f"{newest}: pip install '{package}[tune]>={oldest},<={newest}'"
    )
