"""No input can run code, and no secret is written: checked in the source, and with hostile files."""

import ast
import io
import json
import os
import pickle
import sys
import zipfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch

from resnetlab.errors import BadData, BadRequest, FolderRefused
from resnetlab.provenance import command_line, without_secrets
from resnetlab.storage import segment
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.store import read_table
from resnetlab.vision.data import cifar
from resnetlab.vision.data.cache import Unusable, load
from resnetlab.vision.data.cache import _read as read_entry
from resnetlab.vision.data.source import Contents
from resnetlab.vision.models.pretrained import read as read_weights
from resnetlab.vision.training import checkpoint

ROOT = Path(__file__).resolve().parents[1]
FILES = [*sorted((ROOT / "resnetlab").rglob("*.py")), *sorted((ROOT / "sweeps").glob("*.py"))]
NEVER = {  # calls that build objects, run code, or unpack what they are given
    "pickle.load", "pickle.loads", "pickle.Unpickler", "cloudpickle.load", "cloudpickle.loads", "dill.load",
    "dill.loads", "joblib.load", "marshal.load", "marshal.loads", "shelve.open", "eval", "exec", "compile",
    "__import__", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "pd.read_pickle", "pandas.read_pickle",
    "os.system", "os.popen", "tempfile.mktemp", "shutil.unpack_archive", "torch.hub.load",
    "torch.hub.load_state_dict_from_url", "torch.jit.load", "pa.deserialize", "pa.ipc.read_serialized",
    "tarfile.open",
}  # fmt: skip
ONLY_WITH = {  # calls that are safe with one setting, and the settings that are
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
}
KNOWN = {
    "cifar.py": ["pickle.Unpickler"],  # CIFAR's own files are pickles; see the class
    "references.py": ["compile"],  # a study's own code, which is there to be run
    "part_settings.py": ["eval"],  # annotations in it that are text
    "notify.py": ["subprocess.run"],  # the shell line that the user gives with --notify
}
METHODS = {"extractall", "extract", "read_pickle"}


def unsafe(source: str) -> list[str]:
    """What in a Python file could run what it reads."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            found += [f"{node.lineno}: {name}" for name in map(ast.unparse, node.bases) if name in NEVER]
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        settings = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        bad = name in NEVER or (name.rpartition(".")[2] in METHODS and "." in name)
        if name in ONLY_WITH:
            setting, value = ONLY_WITH[name]
            bad = settings.get(setting) != str(value)
        if name == "yaml.load":
            bad = "_Loader" not in [ast.unparse(argument) for argument in node.args]
        if name.endswith("Environment"):
            bad = settings.get("autoescape") != "True"
        if settings.get("shell") == "True":
            bad = True
        found += [f"{node.lineno}: {name}"] if bad else []
    return found


@pytest.mark.parametrize("path", FILES, ids=[str(file.relative_to(ROOT)) for file in FILES])
def test_nothing_in_the_package_runs_what_it_reads(path):
    found = unsafe(path.read_text())
    assert [line.split(": ")[1] for line in found] == KNOWN.get(path.name, [])


@pytest.mark.parametrize(
    "line",
    [
        "pickle.loads(x)", "torch.load(x)", "torch.load(x, weights_only=False)", "np.load(x, allow_pickle=True)",
        "eval(x)",
        "yaml.load(x, yaml.Loader)", "subprocess.run(x, shell=True)", "archive.extractall(x)", "jinja2.Environment()",
        "class A(pickle.Unpickler): pass", "exec(x)", "os.system(x)", "pd.read_pickle(x)",
    ],
)  # fmt: skip
def test_the_search_finds_what_it_is_for(line):
    assert unsafe(line)


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path):
        self.command = f"touch {marker}"

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.fixture
def evil(tmp_path):
    """A pickle that leaves a file where it is unpickled; there must be none in the end."""
    marker = tmp_path / "owned"
    raw = pickle.dumps(Evil(marker), protocol=2)
    yield raw
    assert not marker.exists()
    pickle.loads(raw)
    assert marker.exists()  # it does what it says


def test_checkpoints_are_not_unpickled(evil, tmp_path):
    saved = io.BytesIO()
    torch.save({"history": Evil(tmp_path / "owned")}, saved)
    for body in (evil, saved.getvalue()):
        with pytest.raises(checkpoint.CheckpointDamaged, match="cannot be read"):
            checkpoint.load(checkpoint.MAGIC + sha256(body).digest() + body)


def test_weights_are_not_unpickled(evil, tmp_path):
    torch.save({"a": torch.zeros(2), "b": Evil(tmp_path / "owned")}, tmp_path / "inside.pt")
    (tmp_path / "plain.pt").write_bytes(evil)
    (tmp_path / "named.safetensors").write_bytes(evil)
    for name in ("inside.pt", "plain.pt", "named.safetensors"):
        with pytest.raises(BadData, match=name):
            read_weights(tmp_path / name)


def test_a_compressed_or_overlapping_file_of_weights_does_not_fill_the_memory(tmp_path):
    torch.save({"a": torch.zeros(1 << 24)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(tmp_path / "bomb.pt", "w", 8) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    assert (tmp_path / "bomb.pt").stat().st_size < 1 << 18
    with pytest.raises(BadData, match=r"bomb\.pt: refused: .* is compressed"):
        read_weights(tmp_path / "bomb.pt")
    raw = (tmp_path / "bomb.pt").read_bytes()
    with pytest.raises(checkpoint.CheckpointDamaged, match="is compressed"):
        checkpoint.load(checkpoint.MAGIC + sha256(raw).digest() + raw)
    torch.save({"a": torch.zeros(1).expand(1 << 20, 1 << 20)}, tmp_path / "wide.pt")
    with pytest.raises(BadData, match=r"wide\.pt: a claims 1,099,511,627,776 values"):
        read_weights(tmp_path / "wide.pt")


def test_a_results_folder_is_not_unpickled(evil, tmp_path):
    """Neither its own files nor those that Ray and Optuna would restore from."""
    names = ("epochs.parquet", "segments/00000000", "study.json", "tuner.pkl", "experiment_state-1.json")
    for name in (*names, "searcher-state-1.pkl", "study.db", "checkpoints/a.0"):
        (tmp_path / "r" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "r" / name).write_bytes(evil)
    folder = ResultsFolder.at(tmp_path / "r")
    with pytest.raises(FolderRefused, match="segments/00000000: damaged"):
        read_table(folder, "epochs")
    folder.clear("segments")
    with pytest.raises(FolderRefused, match=r"epochs\.parquet: damaged"):
        read_table(folder, "epochs")
    with pytest.raises(FolderRefused, match=r"study\.json: damaged"):
        folder.read_json("study.json")
    rest = json.dumps({"version": 2, "tables": {"epochs": len(evil)}}).encode() + b"\n" + evil
    with pytest.raises(FolderRefused, match="damaged"):
        segment.decode(sha256(rest).hexdigest().encode() + b"\n" + rest, "x")


def test_the_data_cache_is_not_unpickled(evil, tmp_path):
    def write(append):
        append(np.zeros((4, 2, 2, 1), np.uint8))
        return Contents({"class": (np.arange(4) % 2, ("a", "b"))})

    load(tmp_path / "cache", "key", write)
    entry = tmp_path / "cache/key"
    objects = np.array([Evil(tmp_path / "owned")], dtype=object)
    np.save(entry / "images.npy", objects, allow_pickle=True)
    with pytest.raises(Unusable):
        read_entry(entry, whole=True)
    np.savez(entry / "tables.npz", moments=objects)
    with pytest.raises(Unusable):
        read_entry(entry, whole=True)
    assert len(load(tmp_path / "cache", "key", write).images) == 4


def test_files_of_cifar_that_ask_to_run_something_are_not_obeyed(evil):
    with pytest.raises(pickle.UnpicklingError, match=r"asks to run .*system"):
        cifar._Arrays(io.BytesIO(evil), encoding="latin1").load()
    plain = pickle.dumps({"data": np.arange(3), "names": ["a"]}, protocol=2)
    assert cifar._Arrays(io.BytesIO(plain), encoding="latin1").load()["data"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://key:pass/w@rd@bucket/x", "s3://…@bucket/x"),
        ("s3://key:p'a\"ss@bucket", "s3://…@bucket"),
        ("abfss://box@account/x?sas_token=abc&region=eu", "abfss://box@account/x?sas_token=…&region=eu"),
        ("gs://bucket/x?access-key=abc", "gs://bucket/x?access-key=…"),
        ("hdfs://user:pass@host:8020/x", "hdfs://…@host:8020/x"),
    ],
)
def test_secrets_in_urls_are_neither_taken_nor_shown(url, shown, monkeypatch):
    assert without_secrets(url) == shown == without_secrets(shown)
    with pytest.raises(BadRequest) as caught:
        ResultsFolder.at(url)
    assert shown in str(caught.value) and "environment" in str(caught.value)
    monkeypatch.setattr(sys, "argv", ["sweeps/ablation.py", "--storage", url, "--set", "seed=1"])
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "sweeps/ablation.py", raising=False)
    assert command_line().endswith(f"--storage '{shown}' --set seed=1")
    assert all(part not in command_line() for part in ("pass", "w@rd", "ss@", "abc"))


@pytest.mark.parametrize(
    "url", ["s3://bucket/x?region=eu&endpoint_override=localhost:9000", "abfss://box@account/x", "/a:b@c"]
)
def test_urls_without_secrets_are_left_as_they_are(url):
    assert without_secrets(url) == url


def test_the_documented_exit_codes_are_those_of_the_errors():
    from resnetlab import errors

    text = (ROOT / "docs" / "exit-codes.md").read_text()
    said = {int(line.split("|")[1]) for line in text.splitlines() if line.startswith("| ") and line[2].isdigit()}
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ResnetlabError)
    ]
    assert said == {0, *(kind.exit_code for kind in kinds)} == {0, 1, 2, 3, 4, 75, 130}
