"""Fixtures and settings for all tests."""

import subprocess
from types import SimpleNamespace

import hypothesis
import pytest

# Seconds of a wall clock say nothing on a machine that others use.
hypothesis.settings.register_profile("ours", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("ours")


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="also the tests that `make test` leaves to `make test-long`")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--long"):
        left = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a GPU")


@pytest.fixture(scope="module")
def warm_processes():
    """The processes in which a user's own code is read and tried have imported torch already: for tests of what they
    answer, not of the processes themselves."""
    from multiprocessing import forkserver

    import warm

    from resnetlab.driver.checks import own_process
    from resnetlab.experiment import references

    forkserver.ensure_running()  # now, as it puts its socket where temporary files lie: a test may have its own place
    with pytest.MonkeyPatch.context() as patch:
        warmed = SimpleNamespace(Popen=warm.Popen, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired)
        for module in (own_process, references):
            patch.setattr(module, "subprocess", warmed)
        yield
