"""The test images that an arm's runs got wrong with the most confidence."""

from __future__ import annotations

import pandas as pd

from resnetlab.analysis.evaluation.test_predictions import ArmRuns
from resnetlab.analysis.results import Results


def most_wrong(results: Results, arm: ArmRuns, top: int) -> pd.DataFrame:
    """A row for each image, the worst first: image, file, group, label and predicted (class numbers; predicted: by most
    of the runs that were wrong), wrong (runs), runs, confidence (mean over the runs that were wrong, a fraction).

    Images are ranked by the probability that the runs gave to a wrong class, a mean over all runs. Empty where the runs
    kept no confidence.
    """
    kept = results.predictions[results.predictions["trial_id"].isin(arm.ids)].dropna(subset=["confidence"])
    columns = ["image", "file", "group", "label", "predicted", "wrong", "runs", "confidence"]
    wrong = kept[kept["label"] != kept["predicted"]]
    if wrong.empty:
        return pd.DataFrame(columns=columns)
    runs = kept["trial_id"].nunique()
    groups = wrong.groupby("image")
    found = pd.DataFrame(
        {
            "label": groups["label"].first(),
            "predicted": groups["predicted"].agg(lambda column: column.mode().iloc[0]),
            "wrong": groups.size(),
            "runs": runs,
            "confidence": groups["confidence"].mean(),
            "weight": groups["confidence"].sum() / runs,
        }
    ).reset_index()
    found = found.sort_values(["weight", "image"], ascending=[False, True]).head(top)
    hashes = results.trials.loc[results.trials["trial_id"].isin(arm.ids), "data_hash"]
    files = results.images[results.images["data_hash"].isin(hashes)]
    found = found.merge(files[["image", "file", "group"]], on="image", how="left")
    return found.astype({"file": object, "group": object})[columns].reset_index(drop=True)
