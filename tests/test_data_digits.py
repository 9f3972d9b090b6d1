"""Handwritten digits in the form of glyphs, and the study that transfers to them."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from resnetlab.errors import BadRequest
from resnetlab.study import load_study
from resnetlab.study.data_config import DataConfig
from resnetlab.vision.data import check, prepare

STUDY = Path(__file__).resolve().parents[1] / "sweeps" / "studies" / "small-target.yaml"


def test_the_images_are_scikit_learns_larger_and_dark_on_light(tmp_path):
    found, theirs = prepare(DataConfig(name="digits"), tmp_path), load_digits()
    assert found.images.shape == (1797, 20, 20, 1) and found.images.dtype == np.uint8
    assert found.classes == tuple("0123456789") and np.array_equal(found.labels, theirs.target)
    inner = 255 - found.images[:, 2:18:2, 2:18:2, 0].astype(float)
    assert np.abs(inner * 16 / 255 - theirs.images).max() < 0.04
    border = found.images.copy()
    border[:, 2:18, 2:18] = 255
    assert (border == 255).all()
    parts = [found.split(name, 0) for name in ("train", "val", "test")]
    assert sum(map(len, parts)) == len(np.unique(np.concatenate(parts))) == 1797
    with pytest.raises(BadRequest, match=r"dataset\.variants: 3, but digits does not read it"):
        check(DataConfig(name="digits", variants=3), tmp_path)


def test_the_study_moves_characters_and_fonts_to_digits():
    study = load_study(STUDY)
    tasks = {name: study.arm_task(name) for name in study.arms}
    assert {tasks[name] for name in ("scratch", "from-characters", "from-fonts-few")} == {"digits"}
    assert tasks["characters"] == "glyphs character" and tasks["fonts"] == "glyphs font"
    assert len(study.declared) == 3 and study.arm_config("from-fonts", seed=1).frozen == 3
