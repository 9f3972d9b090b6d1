"""The published numbers in the package, and the verdict on each kind of made-up result."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from resnetlab.errors import BadData
from resnetlab.reproduction import compare as verdicts
from resnetlab.reproduction.compare import compare
from resnetlab.reproduction.measured import Measured
from resnetlab.reproduction.published import published, read
from resnetlab.study.trial_config import TrialConfig
from resnetlab.vision.models import build

STUDIES = {
    "resnet-vs-cnn": (4, 2),
    "font-transfer": (13, 3),
    "transfer-resnet18": (42, 3),
    "resnet18-finetune": (9, 2),
    "resnet50-vs-scratch": (34, 2),
    "structure-ablation": (23, 11),
}


def test_all_printed_numbers_are_here():
    """125 of the 126 are numbers; the last, a time that is `only marginally longer`, is a claim."""
    found = {name: (len(study.numbers), len(study.claims)) for name, study in published().studies.items()}
    assert found == STUDIES
    assert sum(numbers for numbers, _ in STUDIES.values()) == 125
    assert any("marginally" in claim.text for claim in published().studies["resnet-vs-cnn"].claims)
    for study in published().studies.values():
        for arm in study.arms.values():
            assert arm.text and arm.ours


@pytest.mark.parametrize(
    ("study", "arm", "metric", "split", "printed", "rounding"),
    [
        ("resnet-vs-cnn", "resnet", "accuracy", "test", "79 %", 0.5),
        ("transfer-resnet18", "custom-cnn", "accuracy", "val", "about 73 %", 1.0),
        ("resnet50-vs-scratch", "scratch-cnn", "parameters", None, "1,250,858 parameters", 0.5),
        ("structure-ablation", "fc3", "trainable", None, "18.3 million parameters", 0.05),
        ("structure-ablation", "fc1", "early_accuracy", None, "about 5 to 7 points", 1.0),
        ("font-transfer", "transfer", "best_of_ten_worst", "test", "at most 11.1 %", 0.05),
    ],
)
def test_printed_as_in_the_text(study, arm, metric, split, printed, rounding):
    numbers = published().studies[study].numbers
    found = [n for n in numbers if (n.arm, n.metric, n.split) == (arm, metric, split)]
    assert found[0].printed == printed and found[0].rounding == pytest.approx(rounding)


def content():
    return json.loads(
        json.dumps({"version": 1, "studies": {"s": published().studies["resnet-vs-cnn"].model_dump(mode="json")}})
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["numbers"][0].update(value="many"), r"file: studies\.s\.numbers\.0\.value: .*'many'"),
        (lambda s: s["numbers"][0].update(metric="speed"), r"studies\.s\.numbers\.0\.metric"),
        (lambda s: s["numbers"][0].update(arm="vgg"), r"no arm 'vgg' \(allowed: cnn, resnet\)"),
        (lambda s: s["numbers"][0].update(colour="red"), "colour"),
        (lambda s: s["numbers"][0].update(value=79.5), "has more than digits=0 decimals"),
        (lambda s: s["numbers"][0].update(to=70), "need value < to"),
        (lambda s: s["claims"][0].update(against=None), "a claim needs arm and against"),
        (lambda s: s["claims"][0].update(expect="alike"), "within belongs to expect: alike"),
        (lambda s: s["data"].pop("test"), r"studies\.s\.data\.test: is missing"),
        (lambda s: s["arms"]["cnn"].update(like="vgg"), "like: no arm 'vgg'"),
    ],
)
def test_a_wrong_file_is_refused(change, message):
    raw = content()
    read(json.dumps(raw).encode(), "file")
    change(raw["studies"]["s"])
    with pytest.raises(BadData, match=message):
        read(json.dumps(raw).encode(), "file")


def test_damaged_json_is_refused():
    with pytest.raises(BadData, match="file"):
        read(b'{"version": 1, "studies"', "file")


# -- made-up results -------------------------------------------------------------------------------------------------

DATA = {"name": "cifar10", "shape": [32, 32, 3], "classes": [str(i) for i in range(10)], "train": 49000, "val": 1000,
        "test": 10000}  # fmt: skip


def study(name="resnet-vs-cnn"):
    return published().studies[name]


def result(arms, epochs=12, data=DATA, facts=None, config=None, status="complete"):
    """arms: name -> one test accuracy a seed, or a dict with `accuracy`, `seconds` (of an epoch), `config`, …"""
    trials, curves, classes = [], [], []
    for arm, found in arms.items():
        found = found if isinstance(found, dict) else {"accuracy": found}
        for block, accuracy in enumerate(found["accuracy"]):
            trial = f"{arm}-{block}"
            settings = {"epochs": epochs, "weights": "none", "data_fraction": 1.0} | (config or {})
            trials.append(
                {
                    "trial_id": trial, "arm": arm, "seed_block": block, "status": found.get("status", status),
                    "epochs_run": epochs, "epochs_allowed": epochs, "test_accuracy": accuracy, "test_loss": 1.0,
                    "parameters": found.get("parameters", 1000), "trainable": found.get("parameters", 1000),
                    "train_seconds": epochs * found.get("seconds", 10.0) + block, "device": found.get("device", "cpu"),
                    "device_share": 1.0, "threads": 1, "host": "here",
                    "config": json.dumps(settings | found.get("config", {})),
                }
            )  # fmt: skip
            for epoch in range(1, epochs + 1):
                value = found.get("curve", lambda e, a=accuracy: a * (0.5 + 0.5 * e / epochs))(epoch)
                curves.append({"trial_id": trial, "epoch": epoch, "val_accuracy": value, "val_loss": 1.0,
                               "train_accuracy": value, "train_loss": 2.0 / epoch})  # fmt: skip
            number = len(data["classes"])
            tally = found.get("tally", [(1000, 1000, round(1000 * accuracy))] * number)
            for k, (support, predicted, correct) in enumerate(tally):
                classes.append({"trial_id": trial, "split": "test", "class": k, "name": data["classes"][k],
                                "support": support, "predicted": predicted, "correct": correct})  # fmt: skip
    return Measured(pd.DataFrame(trials), pd.DataFrame(curves), pd.DataFrame(classes), data, facts or {})


def verdict(measured, arm, metric="accuracy", name="resnet-vs-cnn", against="", scaled=False, **which):
    numbers, _ = compare(study(name), measured, scaled)
    words = {"accuracy": "test accuracy, last epoch"}.get(metric, metric)
    found = [v for v in numbers if (v.arm, v.against, v.what) == (arm, against, which.get("what", words))]
    assert len(found) >= 1, [v.what for v in numbers]
    return found[0]


GOOD = {"resnet": [0.785, 0.79, 0.796], "cnn": [0.688, 0.692, 0.695]}


def test_agrees():
    found = verdict(result(GOOD), "resnet")
    assert (found.verdict, found.reasons, found.n) == ("agrees", (), 3)
    assert found.low < 79 < found.high and found.mean == pytest.approx(79.0333, abs=1e-3)
    assert found.difference == pytest.approx(0.0333, abs=1e-3)
    assert (found.printed, found.unit) == ("79 %", "%")


def test_differs():
    found = verdict(result(GOOD | {"resnet": [0.85, 0.851, 0.852]}), "resnet")
    assert (found.verdict, found.reasons) == ("differs", ())
    assert found.low > 79.5 and found.difference == pytest.approx(6.1)


def test_the_interval_is_that_of_one_further_run():
    """By hand for three seeds: t(0.975, 2) = 4.3027, s = 0.0055, so ± 4.3027 · 0.0055 · sqrt(4/3)."""
    values = np.array(GOOD["resnet"])
    found = verdict(result(GOOD), "resnet")
    half = 4.302653 * values.std(ddof=1) * (4 / 3) ** 0.5
    assert (found.low, found.high) == pytest.approx((100 * (values.mean() - half), 100 * (values.mean() + half)))


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_coverage_of_the_interval(seeds):
    """One more run of the same kind lies in it in 95% of cases, however many seeds there are."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        *runs, further = rng.normal(0.7, 0.01, seeds + 1)
        _, low, high = verdicts._prediction([np.array(runs)], exact=False)
        inside += low <= further <= high
    assert 0.92 < inside / 400 < 0.98


@pytest.mark.parametrize("beyond", [0.0, 0.3, 0.7])
def test_rounding_widens_the_interval(beyond):
    """Exactly equal runs have an interval without width: 79 is what 78.5 to 79.5 round to."""
    found = verdict(result(GOOD | {"resnet": [0.79 + beyond / 100] * 3}), "resnet")
    assert found.verdict == ("agrees" if beyond < 0.5 else "differs")


def reasons(measured, arm="resnet", **which):
    found = verdict(measured, arm, **which)
    assert found.verdict == "not comparable" and found.reasons
    return "; ".join(found.reasons)


def test_not_comparable_for_each_reason():
    assert reasons(result(GOOD, epochs=3)) == "3 of 12 epochs"
    assert reasons(result(GOOD, data=DATA | {"name": "glyphs"})) == "other data (glyphs, not cifar10)"
    assert reasons(result(GOOD), scaled=True) == "a run that was shortened on purpose"
    assert reasons(result(GOOD, config={"data_fraction": 0.5})) == "trained on 24,500 of 50,000 images"
    assert reasons(result(GOOD, data=DATA | {"train": 45000})) == "trained on 45,000 of 50,000 images"
    assert reasons(result({"cnn": [0.7, 0.7]})) == "no complete run of resnet"
    lost = {"accuracy": [0.1, 0.1], "status": "diverged"}
    assert reasons(result(GOOD | {"resnet": lost})) == "no complete run of resnet (2 diverged)"
    assert reasons(result({"resnet": [0.79], "cnn": [0.69]})) == "a single seed gives no interval (needs 2 or more)"
    three = reasons(result(GOOD, epochs=3, data=DATA | {"name": "glyphs"}), scaled=True)
    assert three.count(";") == 2


def test_pretrained_weights():
    runs = {"adam": [0.914, 0.915], "sgd": [0.949, 0.951]}
    without = result(runs, epochs=50)
    assert reasons(without, "sgd", name="resnet18-finetune") == "no pretrained weights"
    with_them = result(runs, epochs=50, config={"weights": "IMAGENET1K_V1"})
    assert verdict(with_them, "sgd", name="resnet18-finetune").verdict == "agrees"


def test_weights_from_a_file_are_taken_as_the_texts_and_said_so():
    given = result({"sgd": [0.949, 0.951]}, epochs=50, config={"weights": "file:" + "a" * 32})
    found = verdict(given, "sgd", name="resnet18-finetune")
    assert found.verdict == "agrees" and "sgd started from a file of weights (file:aaa" in found.note


def test_a_failed_arm_says_why():
    failed = result({"sgd": {"accuracy": [0.1], "status": "failed"}}, epochs=50)
    failed.trials["reason"] = "weights X of resnet18 are neither here nor to be downloaded (no network): put them there"
    why = "1 failed: weights X of resnet18 are neither here nor to be downloaded (no network)"
    assert reasons(failed, "sgd", name="resnet18-finetune") == f"no complete run of sgd ({why})"


def test_settings_other_than_the_texts_are_not_comparable_and_other_than_ours_are_named():
    adam = result(GOOD, config={"optimizer": "adam"})
    assert reasons(adam) == "resnet: optimizer=adam, where the text has sgd"
    faster = verdict(result(GOOD, config={"lr": 0.01}), "resnet")
    assert (faster.verdict, faster.note) == ("agrees", "resnet: lr=0.01, where our choice is 0.001")
    claim = claims(result(GOOD, config={"batch_size": 64}))["The ResNet is more accurate than the plain CNN."]
    assert [reason[-30:] for reason in claim.reasons] == ["batch_size=64, where the text has 32"[-30:]] * 2
    few = result(GOOD, data=DATA | {"name": "glyphs"}, config={"data_fraction": 0.02})
    assert reasons(few) == "other data (glyphs, not cifar10, 2% of its training images)"


def test_parameters_are_known_without_a_run():
    facts = {"resnet50": {"parameters": 26_136_138, "trainable": 26_136_138}}
    found = verdict(
        result({"scratch-cnn": [0.77]}, facts=facts), "resnet50", name="resnet50-vs-scratch", what="parameters"
    )
    assert (found.verdict, found.mean, found.n) == ("differs", 26_136_138, 0)
    assert "Keras gives every convolution a bias (26,560 in all)" in found.note
    same = verdict(result({"scratch-cnn": [0.77]}, facts={"resnet50": {"parameters": 26_215_818, "trainable": 1}}),
                   "resnet50", name="resnet50-vs-scratch", what="parameters")  # fmt: skip
    assert same.verdict == "agrees"


def test_a_network_that_the_text_does_not_describe():
    measured = result({"resnet18-finetuned": [0.82, 0.82]}, epochs=10)
    message = reasons(measured, "custom-cnn", name="transfer-resnet18", what="validation accuracy, last epoch")
    assert message == "the text does not say what custom-cnn is"


def test_a_folder_of_the_same_images_is_a_copy_and_one_of_others_is_not():
    found = verdict(result(GOOD, data=DATA | {"name": "folder"}), "resnet")
    assert found.verdict == "agrees" and "taken as a copy of cifar10" in found.note
    assert "other data (folder" in reasons(result(GOOD, data=DATA | {"name": "folder", "test": 8000}))
    small = DATA | {"name": "folder", "shape": [20, 20, 1]}
    assert "other data (folder" in reasons(result(GOOD, data=small))


def test_differences_between_arms_and_counts_of_classes():
    found = verdict(result(GOOD), "resnet", against="cnn")
    assert (found.verdict, found.unit) == ("agrees", "points") and found.mean == pytest.approx(9.8667, abs=1e-3)
    far = verdict(result({"resnet": [0.79, 0.791, 0.789], "cnn": [0.75, 0.751, 0.749]}), "resnet", against="cnn")
    assert far.verdict == "differs"
    better = verdict(result(GOOD), "resnet", against="cnn", what="test classes better")
    assert (better.mean, better.verdict) == (10.0, "agrees")
    tally = [(1000, 1000, 600)] * 3 + [(1000, 1000, 900)] * 7
    worse = verdict(result(GOOD | {"resnet": {"accuracy": [0.79, 0.79], "tally": tally}}), "resnet", against="cnn",
                    what="test classes better")  # fmt: skip
    assert (worse.mean, worse.verdict, worse.n) == (7.0, "differs", 2)


def claims(measured, name="resnet-vs-cnn", **options):
    return {v.printed: v for v in compare(study(name), measured, **options)[1]}


def test_claims_about_which_arm_is_better():
    better = "The ResNet is more accurate than the plain CNN."
    assert claims(result(GOOD))[better].verdict == "agrees"
    turned = claims(result({"resnet": GOOD["cnn"], "cnn": GOOD["resnet"]}))[better]
    assert turned.verdict == "differs" and turned.high < 0
    near = claims(result({"resnet": [0.70, 0.74, 0.72], "cnn": [0.71, 0.73, 0.70]}))[better]
    assert near.verdict == "undecided" and "holds both" in near.reasons[0] and near.low < 0 < near.high
    assert claims(result(GOOD, epochs=2))[better].verdict == "not comparable"
    assert claims(result(GOOD), scaled=True)[better].reasons == ("a run that was shortened on purpose",)
    single = claims(result({"resnet": [0.79], "cnn": [0.69]}))[better]
    assert single.verdict == "not comparable" and "single seed" in single.reasons[0]


def timed(resnet, cnn=10.0, **more):
    return result({"resnet": {"accuracy": [0.79] * 3, "seconds": resnet} | more,
                   "cnn": {"accuracy": [0.69] * 3, "seconds": cnn}})  # fmt: skip


def test_claims_about_time_hold_on_any_data_but_on_one_machine():
    longer = "The ResNet takes only marginally longer to train."
    assert claims(timed(11.0))[longer].verdict == "agrees"
    much = claims(timed(27.0))[longer]
    assert much.verdict == "differs" and "2.69 times as much" in much.note and much.unit == "minutes"
    assert claims(timed(8.0))[longer].verdict == "differs"
    other = claims(timed(11.0, device="cuda"))[longer]
    assert other.reasons == ("the arms ran on different machines or devices",)
    short = {"resnet": {"accuracy": [0.3] * 3, "seconds": 12.0}, "cnn": {"accuracy": [0.3] * 3, "seconds": 10.0}}
    assert claims(result(short, epochs=2, data=DATA | {"name": "glyphs"}))[longer].verdict == "agrees"


def test_claims_that_two_arms_are_alike():
    alike = "The transferred model is about as accurate as the one from scratch (one point less)."
    fonts = {"name": "character-fonts", "shape": [20, 20, 1], "classes": [str(i) for i in range(12720)],
             "train": 521500, "val": 111750, "test": 111750}  # fmt: skip

    def of(transfer, scratch):
        tally = [(40, 40, 30)] * 12720
        arms = {name: {"accuracy": values, "tally": tally} for name, values in
                (("transfer", transfer), ("scratch", scratch))}  # fmt: skip
        return claims(result(arms, data=fonts), "font-transfer")[alike].verdict

    assert of([0.880, 0.881], [0.890, 0.889]) == "agrees"
    assert of([0.80, 0.801], [0.890, 0.889]) == "differs"
    assert of([0.86, 0.90], [0.890, 0.87]) == "undecided"


def test_parameter_counts_are_exact_and_need_the_texts_classes():
    hundred = DATA | {"name": "cifar100", "classes": [str(i) for i in range(100)]}
    arms = {
        "baseline": {"accuracy": [0.3], "parameters": 8_914_580},
        "fc1": {"accuracy": [0.3], "parameters": 1_537_972},
    }
    found = verdict(result(arms, data=hundred), "baseline", name="structure-ablation", what="trainable parameters")
    assert (found.verdict, found.low, found.high) == ("agrees", 8.91458, 8.91458)
    wrong = arms | {"fc1": {"accuracy": [0.3], "parameters": 1_600_000}}
    found = verdict(result(wrong, data=hundred), "fc1", name="structure-ablation", what="trainable parameters")
    assert found.verdict == "differs"
    which = {"name": "structure-ablation", "what": "trainable parameters"}
    ten = reasons(result(arms), "baseline", **which)
    assert ten == "counted for images of 32x32x3 and 10 classes, not images of 32x32x3 and 100 classes"
    facts = {"baseline": {"parameters": 8_914_580, "trainable": 8_914_580}}
    assert verdict(result(arms, facts=facts), "baseline", **which).verdict == "agrees"


def test_other_readings_of_an_arm_are_held_against_its_numbers():
    runs = {"scratch-cnn": [0.10, 0.11], "scratch-cnn-inferred": [0.765, 0.775]}
    numbers, _ = compare(study("resnet50-vs-scratch"), result(runs, epochs=17))
    found = {v.arm: v.verdict for v in numbers if v.what == "test accuracy, last epoch"}
    assert found == {"scratch-cnn": "differs", "scratch-cnn-inferred": "agrees", "resnet50": "not comparable"}


def test_epochs_of_a_curve():
    arms = {"scratch-cnn": {"accuracy": [0.77, 0.77], "curve": lambda epoch: 0.4 + 0.02 * epoch}}
    numbers, _ = compare(study("resnet50-vs-scratch"), result(arms, epochs=17))
    found = {v.what: v.mean for v in numbers if v.arm == "scratch-cnn"}
    assert found["training accuracy, first epoch"] == pytest.approx(42.0)
    assert found["training accuracy, last epoch"] == pytest.approx(74.0)
    assert found["training loss, first epoch"] == pytest.approx(2.0)
    assert found["training loss, epoch 17"] == pytest.approx(2.0 / 17)
    k5 = {"accuracy": [0.3, 0.3], "curve": lambda epoch: 0.02 * epoch}
    base = {"accuracy": [0.3, 0.3], "curve": lambda epoch: 0.1 + 0.01 * epoch}
    numbers, _ = compare(study("structure-ablation"), result({"k5": k5, "baseline": base}, epochs=15))
    found = {(v.arm, v.what): v for v in numbers}
    assert found["k5", "overtaking epoch"].mean == 11.0
    assert found["k5", "accuracy, epoch 15"].mean == pytest.approx(30.0)
    assert found["baseline", "converged accuracy"].mean == pytest.approx(23.0)
    assert found["baseline", "convergence epoch"].reasons == ("the text does not say how it was judged",)


def test_scores_by_class():
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    tally = [(100, 80, 60), (100, 120, 90)] + [(100, 100, 50)] * 8
    arms = {"resnet18-finetuned": {"accuracy": [0.8, 0.8], "tally": tally}}
    numbers, _ = compare(study("transfer-resnet18"), result(arms, epochs=10, data=DATA | {"classes": names}))
    found = {v.what: v.mean for v in numbers}
    assert found["test precision of airplane"] == pytest.approx(0.75)
    assert found["test recall of airplane"] == pytest.approx(0.6)
    assert found["test f1 of airplane"] == pytest.approx(2 * 0.75 * 0.6 / 1.35)
    assert found["test precision of macro"] == pytest.approx((0.75 + 0.75 + 8 * 0.5) / 10)
    assert found["test recall of weighted"] == pytest.approx(0.55)


def test_best_and_worst_classes_are_those_with_enough_test_images():
    fonts = {"name": "glyphs", "shape": [20, 20, 1], "classes": [str(i) for i in range(20)], "train": 1, "test": 1}
    scratch = [(40, 40, 40)] * 5 + [(34, 34, 34)] * 3 + [(40, 40, 10 + i) for i in range(12)]
    transfer = (
        [(40, 40, 39)] + [(40, 40, 40)] * 3 + [(30, 30, 0)] * 4 + [(50, 50, 0)] + [(40, 40, 20 + i) for i in range(11)]
    )
    arms = {"scratch": {"accuracy": [0.8], "tally": scratch}, "transfer": {"accuracy": [0.8], "tally": transfer}}
    numbers, _ = compare(study("font-transfer"), result(arms, data=fonts))
    found = {(v.arm, v.what): v for v in numbers}
    assert found["scratch", "test perfect classes"].mean == 5
    assert found["transfer", "test perfect classes"].mean == 3
    assert found["transfer", "test perfect in both"].mean == 3
    assert found["transfer", "test worst rate"].mean == 0
    assert found["transfer", "test worst support"].mean == 50
    assert found["transfer", "test best of ten worst"].mean == pytest.approx(100 * 28 / 40)
    assert all("other data" in v.reasons[0] for v in found.values())


def test_every_verdict_names_its_place_and_its_runs():
    numbers, asked = compare(study(), result(GOOD))
    assert [row.verdict for row in [*numbers, *asked]] == ["agrees"] * 5 + ["undecided"]
    assert all(row.where and row.n == 3 for row in [*numbers, *asked])


# -- the networks themselves -----------------------------------------------------------------------------------------


def test_layers_have_the_printed_sizes():
    """Each printed layer of study 003 against the network that is built for it."""
    numbers = published().studies["resnet50-vs-scratch"].numbers
    printed = {(n.arm, n.of): n.value for n in numbers if n.metric.startswith("layer")}
    with torch.device("meta"):
        make = lambda **settings: build(TrialConfig(data={"name": "cifar10"}, **settings), (32, 32, 3), 10)  # noqa: E731
        scratch, resnet = make(model="scratch-cnn"), make(model="resnet50", head_depth=3, input_size=224)
    learning = [m for m in scratch.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    names = ["conv2d", "conv2d_1", "conv2d_2", "conv2d_3", "dense", "dense_1"]
    for name, layer in zip(names, learning, strict=True):
        assert sum(p.numel() for p in layer.parameters()) == printed["scratch-cnn", name]
    assert learning[4].in_features == printed["scratch-cnn", "flatten"]
    linear = [m for m in resnet.head if isinstance(m, nn.Linear)]
    for name, layer in zip(["dense", "dense_1", "classification"], linear, strict=True):
        assert sum(p.numel() for p in layer.parameters()) == printed["resnet50", name]
    stages = sum(p.numel() for p in resnet.stages.parameters())
    assert stages + 26_560 + 53_120 == printed["resnet50", "backbone"]
