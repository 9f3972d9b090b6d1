"""CIFAR-10 and CIFAR-100, on small files in the published format (tests cannot download the real ones)."""

import hashlib
import pickle
import subprocess
import sys

import numpy as np
import pytest

import resnetlab.vision.data as data
from resnetlab.errors import BadData
from resnetlab.study.data_config import DataConfig
from resnetlab.vision.data import check, cifar, prepare

PER_BATCH = 20


def dump(folder, name, content):
    raw = pickle.dumps(content, protocol=2)
    (folder / name).write_bytes(raw)
    return [name, hashlib.md5(raw).hexdigest()]


def batch(seed, keys, n=PER_BATCH):
    rng = np.random.default_rng(seed)
    content = {"data": rng.integers(0, 256, (n, 3072), dtype=np.uint8), "batch_label": f"batch {seed}"}
    return content | {key: [(i * 7 + seed) % high for i in range(n)] for key, high in keys.items()}


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    """(root, all images (N, 32, 32, 3), all labels)"""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "root/cifar-10-batches-py"
    folder.mkdir(parents=True)
    monkeypatch.setitem(cifar.MD5, "cifar10", {})
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    batches = [batch(i, {"labels": 10}) for i in range(6)]
    sums = [dump(folder, name, content) for name, content in zip(names, batches, strict=True)]
    cifar.MD5["cifar10"].update(sums)
    meta = dump(folder, "batches.meta", {"label_names": [f"kind{i}" for i in range(10)]})
    cifar.MD5["cifar10"]["batches.meta"] = meta[1]
    monkeypatch.setattr(CIFAR10, "train_list", sums[:5])
    monkeypatch.setattr(CIFAR10, "test_list", sums[5:])
    monkeypatch.setattr(CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})
    images = np.concatenate([content["data"] for content in batches]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return tmp_path / "root", images, np.concatenate([content["labels"] for content in batches])


@pytest.fixture
def cifar100(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR100

    folder = tmp_path / "root/cifar-100-python"
    folder.mkdir(parents=True)
    monkeypatch.setitem(cifar.MD5, "cifar100", {})
    parts = {name: batch(i, {"fine_labels": 100, "coarse_labels": 20}, 200) for i, name in enumerate(["train", "test"])}
    sums = {name: dump(folder, name, content) for name, content in parts.items()}
    cifar.MD5["cifar100"].update(sums.values())
    names = {"fine_label_names": [f"f{i}" for i in range(100)], "coarse_label_names": [f"c{i}" for i in range(20)]}
    meta = dump(folder, "meta", names)
    cifar.MD5["cifar100"]["meta"] = meta[1]
    monkeypatch.setattr(CIFAR100, "train_list", [sums["train"]])
    monkeypatch.setattr(CIFAR100, "test_list", [sums["test"]])
    monkeypatch.setattr(CIFAR100, "meta", {"filename": meta[0], "key": "fine_label_names", "md5": meta[1]})
    return tmp_path / "root", parts


def opened(name, root, **settings):
    data._prepared.clear()
    return prepare(DataConfig(name=name, root=str(root), **settings), root.parent / "cache")


def test_cifar10(cifar10):
    root, images, labels = cifar10
    dataset = opened("cifar10", root)
    assert np.array_equal(dataset.images, images)
    assert np.array_equal(dataset.labels, labels)
    assert dataset.classes == tuple(f"kind{i}" for i in range(10))
    assert dataset.split("test", 0).tolist() == list(range(100, 120))
    assert len(dataset.split("val", 0)) == 10
    assert len(dataset.split("train", 0)) == 90
    assert opened("cifar10", root).hash == dataset.hash


def test_cifar100_has_two_labels(cifar100):
    root, parts = cifar100
    fine = opened("cifar100", root)
    coarse = opened("cifar100", root, label="coarse")
    for dataset, name in ((fine, "fine"), (coarse, "coarse")):
        expected = parts["train"][f"{name}_labels"] + parts["test"][f"{name}_labels"]
        assert dataset.labels.tolist() == expected
        assert dataset.labels.dtype == np.int64
    assert (fine.n_classes, coarse.n_classes) == (100, 20)
    assert coarse.classes[3] == "c3"
    assert np.array_equal(fine.split("val", 1), coarse.split("val", 1))
    assert len(list((root.parent / "cache").iterdir())) == 1


def test_absent_data_says_what_to_do(tmp_path):
    with pytest.raises(BadData, match=r"lacks data_batch_1.*cifar-10-batches-py.*dataset.download: true"):
        check(DataConfig(name="cifar10", root=str(tmp_path)))
    with pytest.raises(BadData, match=r"downloads/cifar-100-python lacks train"):
        check(DataConfig(name="cifar100"), tmp_path)


def test_download_is_left_to_prepare(tmp_path):
    check(DataConfig(name="cifar10", root=str(tmp_path), download=True))
    assert list(tmp_path.iterdir()) == []


def test_altered_data_is_refused(cifar10):
    root, _, _ = cifar10
    path = root / "cifar-10-batches-py/data_batch_3"
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        BadData, match=r"data_batch_3: truncated or altered: its MD5 is .*unpack the published archive again"
    ):
        opened("cifar10", root)
    assert not (root.parent / "cache").exists()


def test_a_failed_download_says_so(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10

    def fail(self):
        raise OSError("no route to host")

    monkeypatch.setattr(CIFAR10, "download", fail)
    with pytest.raises(BadData, match=r"no route to host: it could not be downloaded"):
        opened("cifar10", tmp_path / "root", download=True)


def test_the_second_process_needs_no_torchvision(cifar10):
    root, _, _ = cifar10
    opened("cifar10", root)
    code = (
        "import sys; from pathlib import Path; "
        "from resnetlab.study.data_config import DataConfig; from resnetlab.vision.data import prepare; "
        f"prepare(DataConfig(name='cifar10', root={str(root)!r}), Path({str(root.parent / 'cache')!r})); "
        "assert not {'torch', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
