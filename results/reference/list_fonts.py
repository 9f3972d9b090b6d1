"""Write font-transfer/fonts.md: the fonts whose glyphs the run saw, as its classes table names them."""

from pathlib import Path

import pandas as pd

HERE = Path(__file__).resolve().parent / "font-transfer"


def text() -> str:
    trials = pd.read_parquet(HERE / "trials.parquet", columns=["trial_id", "arm"])
    source = trials.loc[trials["arm"] == "font-source", "trial_id"]
    classes = pd.read_parquet(HERE / "classes.parquet", columns=["trial_id", "name"])
    names = sorted(classes.loc[classes["trial_id"].isin(source), "name"].unique())
    head = (
        f"# {len(names):,} fonts\n\nThose of matplotlib and of the packages in `sweeps/debian-fonts.sh` (Debian 12) "
        "that draw all 47 characters\n(written by `python results/reference/list_fonts.py` from the classes table).\n\n"
    )
    return head + "\n".join(f"- {name}" for name in names) + "\n"


if __name__ == "__main__":
    (HERE / "fonts.md").write_text(text())
