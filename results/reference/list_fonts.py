"""Write fonts.md beside each run of font-transfer: the fonts whose glyphs it saw, as its classes table names them."""

from pathlib import Path

import pandas as pd

HERE = Path(__file__).resolve().parent
WHICH = {
    "font-transfer": "Those of matplotlib, and one face of every so many families of the packages in "
    "`sweeps/debian-fonts.sh` (Debian 12),\nas `sweeps/choose_fonts.py` links them",
    "font-transfer-1205-fonts": "Those of matplotlib and of the packages in `sweeps/debian-fonts.sh` (Debian 12) "
    "that draw all 47 characters",
}


def text(folder: Path) -> str:
    trials = pd.read_parquet(folder / "trials.parquet", columns=["trial_id", "arm"])
    source = trials.loc[trials["arm"] == "font-source", "trial_id"]
    classes = pd.read_parquet(folder / "classes.parquet", columns=["trial_id", "name"])
    names = sorted(classes.loc[classes["trial_id"].isin(source), "name"].unique())
    head = (
        f"# {len(names):,} fonts\n\n{WHICH[folder.name]}\n"
        "(written by `python results/reference/list_fonts.py` from the classes table).\n\n"
    )
    return head + "\n".join(f"- {name}" for name in names) + "\n"


if __name__ == "__main__":
    for name in (name for name in WHICH if (HERE / name).is_dir()):
        (HERE / name / "fonts.md").write_text(text(HERE / name))
