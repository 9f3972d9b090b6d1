"""Studies, tables and plans with old names open under the new ones, and keep their hashes."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_results import default_study, make_results

from resnetlab.analysis.results import Results
from resnetlab.errors import BadRequest
from resnetlab.planning.making import sketch
from resnetlab.planning.plan import Plan
from resnetlab.report.build import build_report
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.schema import SCHEMA_VERSION, schema
from resnetlab.storage.store import Store, read_table
from resnetlab.study import build_study, legacy, load_study
from resnetlab.study.frozen import digest
from resnetlab.study.trial_config import TrialConfig

STUDIES = Path(__file__).resolve().parents[1] / "sweeps" / "studies"
OLD = {
    "grace_period": "grace", "reduction_factor": "reduction", "second_objective": "against", "batch_size": "batch",
    "epoch_timeout_s": "epoch_limit",
}  # fmt: skip
RECORDED = {  # file: study hash, id of the baseline's trial with seed 0, what the baseline's plan draws its seeds from
    "cifar10-folder": ("714727eb54cc81fbc6f0fe0eb3fdda4e", "190bd1442a68", "113944affec9d94b"),
    "default": ("92e322f5f4d49136887c579e288cc9fe", "c220dfad3ac7", "64a5e355ef0c39cd"),
    "digits-looks": ("467514a61da9c23f0492cbd891743bac", "d83478493790", "b15d74d599e6458d"),
    "optimizer-factorial": ("7ead66511e33cd42fe1fed8b3f64e8b6", "3fa99139d350", "b3204b34b224b1f0"),
    "published/font-transfer": ("843c879d84498c21d95c84b6bc3ea906", "167ea66983c5", "b99695654e763fe9"),
    "published/resnet-vs-cnn": ("a33dd6cd992bca600f127d95076175fe", "cf8e852fecb6", "02a74ce952fd9635"),
    "published/resnet18-finetune": ("3ecdaa44c977f0cdc57f30900540c09c", "0645e6826cdd", "df1a564eb09ff7fe"),
    "published/resnet50-vs-scratch": ("f083bdd18f6163aef8678e81213c2c34", "458d4f57c080", "d5b12bb6609224bf"),
    "published/structure-ablation": ("748f20f6a92b91eff970bfe2eaf4e33f", "5122d0225bf3", "c83aae27d1ff1d76"),
    "published/transfer-resnet18": ("a88948f095094ba4ea13bbe0a86e672b", "85eb72c33143", "3c5781a2dc360046"),
    "kernel-equal-size": ("7e169fdf1c784eec1ae6faf9e57b4eca", "bc03e4d78c4f", "0db88b01de829376"),
    "structure-factorial": ("54107d99412de4a09f4b1bfdf5a0f89e", "0ac65b6e822f", "20eb2757b8bd4655"),
    "small-target": ("c26bf8b4e6313d5df7fe2b789fccc19e", "ac3bb2bcb97a", "afa7062ea7914193"),
}


def older(text):
    """A study file as it was spelt before."""
    for new, old in OLD.items():
        text = re.sub(rf"\b{new}\b", old, text)
    return text


@pytest.mark.parametrize("name", RECORDED)
def test_an_included_study_keeps_its_hashes_under_old_names_and_new(name, tmp_path, capsys):
    text = (STUDIES / f"{name}.yaml").read_text()
    file = tmp_path / f"{Path(name).name}.yaml"
    found = []
    for spelt in (text, older(text)):
        file.write_text(spelt)
        study = load_study(file)
        found.append((study.study_hash, study.baseline_config(seed=0).trial_id, sketch(study).seeds_from))
        if spelt == text:
            assert capsys.readouterr().err == ""
    assert found == [RECORDED[name]] * 2
    (note,) = capsys.readouterr().err.splitlines()
    assert note.startswith(f"note: {file}: ") and "baseline.batch is now baseline.batch_size" in note
    assert ("search.grace is now search.grace_period" in note) == ("grace_period" in text)


def test_no_included_study_is_without_recorded_hashes():
    assert {str(file.relative_to(STUDIES).with_suffix("")) for file in STUDIES.rglob("*.yaml")} == set(RECORDED)


WHOLE = """
dataset: {name: folder, root: images}
baseline: {width: 8, batch_size: 64}
factors:
  kernel: {levels: [3, 5]}
  batch_size: [{levels: [32, 64], when: {kernel: 3}}, {levels: [64, 128], when: {kernel: 5}}]
  lr: {low: 0.01, high: 0.1, when: {batch_size: [64, 128]}}
hypotheses: [kernel 5 > kernel 3]
search: {grace_period: 2, reduction_factor: 4, second_objective: parameters}
confirm: {factors: [kernel, batch_size]}
resources: {epoch_timeout_s: 60}
"""


def test_every_old_name_is_translated_wherever_it_can_be(tmp_path, capsys):
    file = tmp_path / "s.yaml"
    file.write_text(WHOLE)
    new = load_study(file)
    assert capsys.readouterr().err == ""
    file.write_text(older(WHOLE))
    assert load_study(file) == new
    said = capsys.readouterr().err
    for words in (
        "baseline.batch is now baseline.batch_size", "factors.batch is now", "factors.lr.when.batch is now",
        "search.grace is now", "search.reduction is now search.reduction_factor",
        "confirm.factors: batch is now batch_size", "search.against is now search.second_objective",
        "resources.epoch_limit is now resources.epoch_timeout_s",
    ):  # fmt: skip
        assert words in said
    assert said.count("\n") == 1


def test_hypotheses_are_about_the_new_name_and_names_of_arms_stay():
    factors = {"batch": {"levels": [32, 64]}}
    content = {"name": "s", "dataset": {"name": "glyphs"}, "baseline": {"batch": 32}}
    found = build_study(content | {"factors": factors, "hypotheses": ["batch 64 > batch 32"]}, "s.yaml")
    assert found.hypotheses == ("batch_size 64 > batch_size 32",)
    content |= {"confirm": {"design": "arms"}, "hypotheses": ["arm batch > arm grace"]}
    study = build_study(content | {"arms": {"batch": {"batch": 64}, "grace": {"source": "batch"}}}, "s.yaml")
    assert study.arms == {"batch": {"batch_size": 64}, "grace": {"source": "batch"}}
    assert study.hypotheses == ("arm batch > arm grace",)


def test_set_takes_old_names_where_the_file_has_new_ones_and_the_reverse(tmp_path, capsys):
    file = tmp_path / "s.yaml"
    for text in (WHOLE, older(WHOLE)):
        file.write_text(text)
        for key in ("search.grace", "search.grace_period"):
            assert load_study(file, {key: 3}).search.grace_period == 3
        assert load_study(file, {"search": {"grace": 4}}).search.grace_period == 4
        assert load_study(file, {"baseline.batch": 32}).baseline == {"width": 8, "batch_size": 32}
    assert "search.grace is now search.grace_period" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text, changes, names",
    [
        (WHOLE.replace("reduction_factor: 4", "grace: 2"), {}, "search.grace and search.grace_period"),
        (WHOLE.replace("width: 8", "batch: 8"), {}, "baseline.batch and baseline.batch_size"),
        (WHOLE, {"search.grace": 1, "search.grace_period": 1}, "search.grace and search.grace_period"),
        (WHOLE, {"search": {"grace": 1, "grace_period": 1}}, "search.grace and search.grace_period"),
    ],
)
def test_an_old_name_and_its_new_one_together_are_refused(text, changes, names, tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text(text)
    with pytest.raises(BadRequest, match=f"s.yaml.*: {names} are one setting under its old name and its new one"):
        load_study(file, changes)


FACTORS = {"kernel": {"levels": [3, 5]}, "batch_size": {"levels": [32, 64]}}


def as_version_2(folder):
    """The trials table, the study and the plan of a folder as they were written before the new names."""
    table = pq.read_table(folder / "trials.parquet")
    metadata = {**table.schema.metadata, b"resnetlab.version": b"2"}
    config = [older(text) for text in table["config"].to_pylist()]
    table = table.set_column(table.schema.get_field_index("config"), "config", pa.array(config))
    table = table.rename_columns([OLD.get(name, name) for name in table.column_names])
    pq.write_table(table.replace_schema_metadata(metadata), folder / "trials.parquet")
    for name in ("study.json", "plan.json"):
        text = (folder / name).read_text()
        (folder / name).write_text(re.sub(r'"(\w+)":', lambda found: f'"{OLD.get(found[1], found[1])}":', text))


def test_an_old_folder_is_read_under_the_new_names(tmp_path):
    make_results(tmp_path, default_study(factors=FACTORS, hypotheses=[]))
    now = Results.open(tmp_path)
    as_version_2(tmp_path)
    then = Results.open(tmp_path)
    assert '"batch":' in pq.read_table(tmp_path / "trials.parquet")["config"][0].as_py()
    assert "batch" in pq.read_table(tmp_path / "trials.parquet").column_names
    assert then.study == now.study and then.plan == now.plan and not then.notes
    assert then.plan.plan_hash == now.plan.plan_hash and then.plan.seeds_from == now.plan.seeds_from
    assert "batch_size" in then.plan.incumbent
    assert "batch_size" in then.factors and then.trials.equals(now.trials)
    for row in then.trials.itertuples():
        assert TrialConfig.model_validate_json(row.config).trial_id == row.trial_id
    assert build_report(tmp_path).exists()


def test_an_old_table_is_gone_on_with_under_the_new_names(tmp_path):
    make_results(tmp_path, default_study(factors=FACTORS, hypotheses=[]))
    as_version_2(tmp_path)
    old = read_table(ResultsFolder.at(tmp_path), "trials")
    assert old.schema.equals(schema("trials", ("kernel", "batch_size")))
    store = Store(ResultsFolder.at(tmp_path), ("kernel", "batch_size"))
    first = old["trial_id"][0].as_py()
    store.add("trials", {"trial_id": first, "batch_size": 256})
    store.flush()
    assert read_table(ResultsFolder.at(tmp_path), "trials")["batch_size"][0].as_py() == 256
    store.close()
    raw = pq.read_table(tmp_path / "trials.parquet")
    assert raw.schema.metadata[b"resnetlab.version"] == str(SCHEMA_VERSION).encode()
    assert raw["batch_size"][0].as_py() == 256
    assert raw["batch_size"][1:].equals(old["batch_size"][1:]) and "batch" not in raw.column_names


def test_a_plan_written_under_old_names_keeps_the_hash_of_what_was_written():
    content = sketch(default_study(factors=FACTORS, hypotheses=[])).content()
    del content["oriented"]  # which plans did not have under the old names
    content["incumbent"]["batch"] = content["incumbent"].pop("batch_size")
    content["compared"]["batch"] = content["compared"].pop("batch_size")
    content["contrasts"] = [text.replace("batch_size", "batch") for text in content["contrasts"]]
    for arm in content["arms"]:
        for part in ("values", "changed", "companions"):
            arm[part] = {OLD.get(name, name): value for name, value in arm.get(part, {}).items()}
    plan = Plan(**content)
    assert plan.plan_hash == digest(content)[:16]
    assert all("batch_size" in arm.values for arm in plan.arms)
    assert any(text.startswith("batch_size: ") for text in plan.contrasts)


@pytest.mark.parametrize(
    ("said", "now"),
    [
        ("norm batch > norm group", "norm batch > norm group"),
        ("norm: batch - group", "norm: batch - group"),
        ("norm batch within 1 of norm group", "norm batch within 1 of norm group"),
        ("batch 64 within 1 of batch 32", "batch_size 64 within 1 of batch_size 32"),
        ("lr × batch", "lr × batch_size"),
    ],
)
def test_a_level_that_is_called_like_a_setting_of_old_stays(said, now):
    assert legacy.renamed(said, legacy.SETTINGS) == now
