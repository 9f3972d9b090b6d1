"""Queries of NVML, through NVIDIA's Python package, against a C library that answers like the driver's."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DRIVER = r"""
#include <string.h>
static int device;
int nvmlInitWithFlags(unsigned flags) { return 0; }
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **h) { *h = &device; return i == 1 ? 0 : 2; }
int nvmlDeviceGetHandleByUUID(const char *name, void **h) { *h = &device; return strcmp(name, "GPU-x") ? 6 : 0; }
int nvmlDeviceGetMemoryInfo(void *h, unsigned long long *m) { m[0] = 100; m[1] = 70; m[2] = 30; return h != &device; }
int nvmlDeviceGetUtilizationRates(void *h, unsigned *u) { u[0] = 25; u[1] = 3; return h != &device; }
int nvmlDeviceGetTotalEnergyConsumption(void *h, unsigned long long *e) { *e = 1500; return ENERGY; }
"""
ASKED = """
import json, sys
from resnetlab.errors import BadRequest
from resnetlab.vision.training.nvml import Gpu, NvmlError
from resnetlab.ray_backend.gpu.probe import Nvml
def tried(call):
    try:
        return call()
    except (BadRequest, NvmlError) as error:
        return str(error)
gpu = Gpu("GPU-x")
energy, absent, visible = tried(gpu.joules), tried(lambda: Gpu("7")), tried(lambda: Nvml().memory())
print(json.dumps([gpu.memory(), gpu.busy(), energy, absent, visible]))
"""


@pytest.fixture
def asked(tmp_path):
    """Ask in a process of its own; `energy` is what the driver answers where its counter is asked for."""
    if not shutil.which("cc"):
        pytest.skip("no C compiler")

    def ask(energy, visible):
        source, library = tmp_path / "nvml.c", tmp_path / "libnvidia-ml.so.1"
        source.write_text(DRIVER)
        subprocess.run(["cc", "-shared", "-fPIC", f"-DENERGY={energy}", source, "-o", library], check=True)
        env = os.environ | {"LD_LIBRARY_PATH": str(tmp_path), "CUDA_VISIBLE_DEVICES": visible}
        done = subprocess.run([sys.executable, "-c", ASKED], env=env, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return ask


def test_memory_use_and_energy_come_in_bytes_shares_and_joules(asked):
    memory, busy, joules, _, visible = asked(energy=0, visible="1,0")
    assert (memory, busy, joules, visible) == ([30, 100], 0.25, 1.5, [30, 100])


def test_what_nvml_does_not_know_is_an_error_in_its_words(asked):
    _, _, joules, absent, visible = asked(energy=3, visible="GPU-other")
    assert joules == "Not Supported" and absent == "Invalid Argument"
    assert visible == "resources.gpus: auto: NVML does not know GPU GPU-other (Not Found); give a number"
