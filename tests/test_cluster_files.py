"""The files in cluster/ are accepted by their readers: Ray's schema, KubeRay's documented fields, bash, resnetlab."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).resolve().parents[1]
CLUSTER = ROOT / "cluster"
PINS = dict(line.split("==") for line in (CLUSTER / "constraints.txt").read_text().split() if "==" in line)
WHOLE, TEXT, FLAG, NUMBER, MAP = "integer", "string", "boolean", "number", "map of strings"

# The fields of ray.io/v1 with their types, from KubeRay's API reference for 1.6 (docs/reference/api.md of the project).
# What stands in Kubernetes' own reference (1.31) is listed as far as it is used here.
DOCUMENTED = {
    "RayJobSpec": {
        "activeDeadlineSeconds": WHOLE, "backoffLimit": WHOLE, "rayClusterSpec": "RayClusterSpec",
        "submitterPodTemplate": "PodTemplateSpec", "metadata": MAP, "clusterSelector": MAP,
        "submitterConfig": "SubmitterConfig", "managedBy": TEXT, "entrypoint": TEXT, "runtimeEnvYAML": TEXT,
        "jobId": TEXT, "submissionMode": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"],
        "entrypointResources": TEXT, "entrypointNumCpus": NUMBER, "entrypointNumGpus": NUMBER,
        "ttlSecondsAfterFinished": WHOLE, "shutdownAfterJobFinishes": FLAG, "suspend": FLAG,
    },
    "RayClusterSpec": {
        "authOptions": "AuthOptions", "suspend": FLAG, "managedBy": TEXT, "headServiceAnnotations": MAP,
        "enableInTreeAutoscaling": FLAG, "headGroupSpec": "HeadGroupSpec", "rayVersion": TEXT,
        "workerGroupSpecs": ["WorkerGroupSpec"],
    },
    "AuthOptions": {"mode": ["disabled", "token"], "secretName": TEXT, "enableK8sTokenAuth": FLAG},
    "SubmitterConfig": {"backoffLimit": WHOLE},
    "HeadGroupSpec": {
        "template": "PodTemplateSpec", "enableIngress": FLAG, "rayStartParams": MAP,
        "serviceType": ["ClusterIP", "NodePort", "LoadBalancer"],
    },
    "WorkerGroupSpec": {
        "suspend": FLAG, "groupName": TEXT, "replicas": WHOLE, "minReplicas": WHOLE, "maxReplicas": WHOLE,
        "idleTimeoutSeconds": WHOLE, "rayStartParams": MAP, "template": "PodTemplateSpec", "numOfHosts": WHOLE,
    },
    "PodTemplateSpec": {"spec": "PodSpec"},
    "PodSpec": {
        "containers": ["Container"], "volumes": ["Volume"], "tolerations": ["Toleration"],
        "terminationGracePeriodSeconds": WHOLE,
    },
    "Container": {
        "name": TEXT, "image": TEXT, "resources": "Resources", "volumeMounts": ["VolumeMount"],
        "lifecycle": "Lifecycle",
    },
    "Resources": {"requests": "Quantities", "limits": "Quantities"},
    "Quantities": {"cpu": "quantity", "memory": "quantity", "nvidia.com/gpu": "quantity", "storage": "quantity"},
    "VolumeMount": {"name": TEXT, "mountPath": TEXT},
    "Volume": {"name": TEXT, "persistentVolumeClaim": "ClaimSource", "emptyDir": "EmptyDir"},
    "ClaimSource": {"claimName": TEXT},
    "EmptyDir": {"medium": ["", "Memory"], "sizeLimit": "quantity"},
    "Toleration": {
        "key": TEXT, "operator": ["Exists", "Equal"], "effect": ["NoSchedule", "PreferNoSchedule", "NoExecute"],
    },
    "Lifecycle": {"preStop": "Handler"},
    "Handler": {"exec": "Exec"},
    "Exec": {"command": [TEXT]},
    "ClaimSpec": {"accessModes": [TEXT], "resources": "Resources", "storageClassName": TEXT},
}  # fmt: skip


def against(value, kind, place):
    """Every departure of `value` from the documented `kind`, as text."""
    simple = {WHOLE: int, TEXT: str, FLAG: bool, NUMBER: (int, float)}
    if isinstance(kind, list) and kind[0] in (*DOCUMENTED, TEXT):
        if not isinstance(value, list):
            return [f"{place}: need a list, got {value!r}"]
        return [line for i, item in enumerate(value) for line in against(item, kind[0], f"{place}[{i}]")]
    if isinstance(kind, list):
        return [] if value in kind else [f"{place}: {value!r} (allowed: {', '.join(kind)})"]
    if kind == "quantity":
        good = re.fullmatch(r"\d+(\.\d+)?(m|[kMGTPE]i?)?", str(value))
        return [] if good else [f"{place}: {value!r} is not a quantity"]
    if kind == MAP:
        return [
            f"{place}.{key}: need a string, got {item!r}" for key, item in value.items() if not isinstance(item, str)
        ]
    if kind in simple:
        wrong = not isinstance(value, simple[kind]) or (isinstance(value, bool) and kind != FLAG)
        return [f"{place}: need {kind}, got {value!r}"] if wrong else []
    found = []
    for key, item in value.items():
        known = DOCUMENTED[kind].get(key)
        found += against(item, known, f"{place}.{key}") if known else [f"{place}.{key}: not a field of {kind}"]
    return found


def rayjob():
    return list(yaml.safe_load_all((CLUSTER / "kuberay/rayjob.yaml").read_text()))


def test_the_rayjob_has_only_documented_fields_of_the_documented_types():
    claim, job = rayjob()
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob") and set(job) == {
        "apiVersion", "kind", "metadata", "spec",
    }  # fmt: skip
    assert against(job["spec"], "RayJobSpec", "spec") == []
    assert (claim["apiVersion"], claim["kind"]) == ("v1", "PersistentVolumeClaim")
    assert against(claim["spec"], "ClaimSpec", "spec") == []


def test_the_check_of_the_rayjob_finds_mistakes():
    _, job = rayjob()
    spec = job["spec"]
    spec["shutDownAfterJobFinishes"] = True
    spec["backoffLimit"] = "5"
    spec["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] = 0
    spec["rayClusterSpec"]["authOptions"]["mode"] = "tokens"
    assert sorted(line.split(":")[0] for line in against(spec, "RayJobSpec", "spec")) == [
        "spec.backoffLimit",
        "spec.rayClusterSpec.authOptions.mode",
        "spec.rayClusterSpec.headGroupSpec.rayStartParams.num-cpus",
        "spec.shutDownAfterJobFinishes",
    ]


def test_the_rayjob_fits_together():
    claim, job = rayjob()
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == PINS["ray"] and cluster["authOptions"]["mode"] == "token"
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for pod in (group["template"]["spec"] for group in groups):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes["shared"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
            assert container["resources"]["limits"] == container["resources"]["requests"]
    words = job["spec"]["entrypoint"].split()
    assert words[words.index("--storage") + 1].startswith("/shared")
    nodes = 1 + sum(group["replicas"] for group in cluster["workerGroupSpecs"])
    assert words[words.index("--nodes") + 1] == str(nodes)


@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_ray_up_files_pass_rays_own_schema(name):
    text = (CLUSTER / f"{name}.yaml").read_text()
    whole = prepare_config(yaml.safe_load(text))
    validate_config(whole)
    assert whole["docker"]["image"].startswith(f"rayproject/ray:{PINS['ray']}-py311")
    assert "--env RAY_AUTH_MODE=token" in whole["docker"]["run_options"]
    assert "/home/ray/.ray/auth_token" in whole["file_mounts"]
    with pytest.raises(Exception, match="max_worker"):
        validate_config(prepare_config(yaml.safe_load(text) | {"max_worker": 3}))


def test_every_node_gets_the_versions_that_the_project_asks_for():
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    pins = {name.lower().replace("_", "-"): version for name, version in PINS.items()}
    for requirement in map(Requirement, asked):
        assert requirement.specifier.contains(pins[requirement.name.lower()]), requirement
    assert f"rayproject/ray:{PINS['ray']}-py311" in (CLUSTER / "Dockerfile").read_text()


@pytest.mark.parametrize("name", ["local.sh", "slurm/sweep.sbatch"])
def test_scripts_are_bash(name):
    done = subprocess.run(["bash", "-n", str(CLUSTER / name)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_image_copies_what_there_is():
    copied = re.findall(r"^COPY --chown=\S+ (.*) \S+$", (CLUSTER / "Dockerfile").read_text(), re.MULTILINE)
    for path in " ".join(copied).split():
        assert (ROOT / path).exists(), path


def test_every_way_in_stands_in_the_readme():
    text = (CLUSTER / "README.md").read_text()
    for path in CLUSTER.rglob("*"):
        if path.is_file() and path.name != "README.md":
            assert str(path.relative_to(CLUSTER)) in text, path
