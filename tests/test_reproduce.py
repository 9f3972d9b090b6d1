"""Each published study runs with one command, shortened or whole."""

import subprocess
import sys
from pathlib import Path

import pytest

from resnetlab.cli.dry_run import dry_run
from resnetlab.driver.dry_run import arm_facts
from resnetlab.driver.options import Options
from resnetlab.errors import BadRequest
from resnetlab.reproduction import studies
from resnetlab.reproduction.published import published

ROOT = Path(__file__).resolve().parents[1]
STUDIES = ROOT / "sweeps" / "studies" / "published"
NAMES = sorted(published().studies)


def test_every_published_study_has_a_file_and_is_listed():
    assert sorted(path.stem for path in STUDIES.glob("*.yaml")) == NAMES
    done = subprocess.run([sys.executable, ROOT / "sweeps/reproduce.py"], capture_output=True, text=True)
    assert done.returncode == 0 and all(name in done.stdout for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_arm_of_the_text_can_be_run(name):
    study = studies.study_of(STUDIES, name, None, 1.0, None)
    text = published().studies[name]
    assert {arm for arm, found in text.arms.items() if not found.unspecified} <= set(study.arms)
    for arm, found in text.arms.items():
        if arm in study.arms and found.epochs is not None:
            assert study.arm_config(arm, seed=0).epochs == found.epochs


@pytest.mark.parametrize("name", NAMES)
def test_what_the_text_fixes_and_what_we_chose_is_what_an_arm_runs(name):
    study = studies.study_of(STUDIES, name, None, 1.0, None)
    for arm, found in published().studies[name].arms.items():
        wanted = found.fixed | found.chosen
        assert found.unspecified or wanted
        config = study.arm_config(arm, seed=0).model_dump() if wanted else {}
        assert {key: config[key] for key in wanted} == wanted
        said = {"weights", "epochs", *wanted}
        changed = {key for key in {*study.baseline, *study.arms.get(arm, {})} if config.get(key) is not None}
        assert found.unspecified or changed <= said, "every setting of the study has its place"


def test_parameter_counts_are_the_printed_ones():
    def counts(name):
        text = published().studies[name]
        study = studies.study_of(STUDIES, name, None, 1.0, None)
        return {arm: found["parameters"] for arm, found in arm_facts(study, text.data.shape, text.data.classes).items()}

    assert counts("resnet-vs-cnn") == {"cnn": 558_974, "resnet": 645_150}
    ablation = counts("structure-ablation")
    assert (ablation["baseline"], ablation["fc1"], ablation["fc3"]) == (8_914_580, 1_537_972, 18_290_252)
    assert (ablation["k5"], ablation["k5-fc1"], ablation["blocks2"]) == (1_724_052, 1_701_812, 17_593_492)
    assert counts("resnet50-vs-scratch")["scratch-cnn"] == 1_250_858
    assert counts("transfer-resnet18")["resnet18-finetuned"] == 11_181_642


def test_scale_shortens_epochs_and_data_and_takes_another_folder():
    whole = studies.study_of(STUDIES, "resnet50-vs-scratch", None, 1.0, None)
    short = studies.study_of(STUDIES, "resnet50-vs-scratch", 2, 0.5, None)
    assert short.name != whole.name and short.confirm.seeds == 2
    config = short.arm_config("resnet50", seed=0)
    assert (config.epochs, config.data_fraction) == (3, 0.5)
    small = studies.study_of(STUDIES, "font-transfer", None, 0.5, None).arm_config("transfer-small", seed=0)
    assert small.data_fraction == 0.05


def test_data_may_be_a_folder_of_images(tmp_path):
    (tmp_path / "train").mkdir()
    study = studies.study_of(STUDIES, "resnet-vs-cnn", None, 1.0, str(tmp_path))
    assert (study.dataset.name, study.dataset.root) == ("folder", str(tmp_path))


@pytest.mark.parametrize(
    "name, scale, words", [("nosuch", 1.0, "allowed: font-transfer"), ("font-transfer", 0.0, "scale")]
)
def test_bad_requests(name, scale, words):
    with pytest.raises(BadRequest, match=words):
        studies.study_of(STUDIES, name, None, scale, None)


def test_fonts_to_render_and_changed_keys(tmp_path):
    fonts = studies.study_of(STUDIES, "font-transfer", None, 1.0, str(tmp_path), {"dataset.variants": 3})
    assert (fonts.dataset.font_dir, fonts.dataset.variants) == (str(tmp_path), 3)
    with pytest.raises(BadRequest, match=r"dataset\.varants"):
        studies.study_of(STUDIES, "font-transfer", None, 1.0, None, {"dataset.varants": 3})


def test_the_dry_run_describes_each_arm(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RESNETLAB_CACHE", str(tmp_path))
    study = studies.study_of(
        STUDIES, "font-transfer", None, 0.1, None, {"dataset.variants": 2, "baseline.batch_size": 16}
    )
    dry_run(study, Options(str(tmp_path / "results")))
    said = capsys.readouterr().out
    lines = {line.split(":")[0].strip(): line for line in said.splitlines() if line.startswith("  ")}
    assert set(study.arms) <= set(lines) and "explore" not in said and "factors:" not in said
    assert "47 classes" in said and "22 classes" in said, "both labels are described"
    assert "206,279 of 262,023 parameters trained" in lines["transfer"] and "1 epoch of 158 " in lines["transfer"]
    assert lines["transfer"].endswith("from the stages of font-source, 3 of 3 stages frozen")
    assert "from" not in lines["scratch"] and "1 epoch of 16 images" in lines["scratch-small"]
    assert "9 arms × 3 seeds = 27 runs of 1 epochs: 27 epochs" in said and "cost: 27 epochs" in said
    assert not (tmp_path / "results").exists()
