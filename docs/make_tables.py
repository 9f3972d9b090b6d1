"""docs/tables.md from the schemas in the code.

python docs/make_tables.py            prints it
python docs/make_tables.py --write    writes it
"""

import sys
from pathlib import Path

from resnetlab.tables.schema import KEYS, OLDEST, SCHEMA_VERSION, schema

PAGE = Path(__file__).with_name("tables.md")
ABOUT = {
    "trials": "a row for each trial, whatever became of it; the study's factors are columns of their own",
    "epochs": "a row for each epoch of each trial",
    "rungs": "a row for each decision of ASHA",
    "classes": "a row for each class, of each run that read the test split",
    "predictions": "a row for each test image, of each confirm run",
    "effects": "a row for each confirmed comparison; remade from the others by `python sweeps/report.py`",
}

BESIDE = [
    "## `errors/<trial_id>.txt`",
    "",
    "A text for each trial that failed or ran out of memory, beside the tables: when, why, its settings, and the",
    "traceback or the end of its process's log. A trial that fails again has both failures in it.",
]


def page() -> str:
    """The whole of docs/tables.md."""
    versions = f"version {SCHEMA_VERSION}" + (
        f"; versions from {OLDEST} on are read, with nulls for later columns" if OLDEST < SCHEMA_VERSION else ""
    )
    lines = [
        "# The tables",
        "",
        f"Made by `python docs/make_tables.py --write` from the schemas in the code, {versions}.",
        "The same meanings and units are in the metadata of every Parquet file. Accuracies are fractions,",
        "timestamps UTC, and a null is what does not apply or is not known.",
    ]
    for table, about in ABOUT.items():
        lines += ["", f"## `{table}.parquet`", "", f"{about[0].upper()}{about[1:]}. Key: {', '.join(KEYS[table])}.", ""]
        lines += ["| column | type | unit | meaning |", "|---|---|---|---|"]
        for field in schema(table, ("kernel",) if table == "trials" else ()):
            said = {key.decode(): value.decode() for key, value in field.metadata.items()}
            name, meaning = f"`{field.name}`", said["meaning"]
            if table == "trials" and field.name == "kernel":
                name, meaning = "the factors", "each under its own name and type, e.g. `kernel`; null where inactive"
            lines.append(f"| {name} | {field.type} | {said['unit']} | {meaning} |")
    return "\n".join([*lines, "", *BESIDE]) + "\n"


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        PAGE.write_text(page())
    else:
        print(page(), end="")
