"""Print the tables' columns for docs/tables.md, from the schemas in the code.

python docs/make_tables.py
"""

from resnetlab.storage.schema import KEYS, OLDEST, SCHEMA_VERSION, schema

ABOUT = {
    "trials": "a row for each trial, whatever became of it; the study's factors are columns of their own",
    "epochs": "a row for each epoch of each trial",
    "rungs": "a row for each decision of ASHA",
    "classes": "a row for each class, of each run that read the test split",
    "predictions": "a row for each test image, of each confirm run",
    "effects": "a row for each confirmed comparison; remade from the others by `python sweeps/report.py`",
    "looks": "with `confirm.looks: blocks`, a row for each look at the confirm runs and each comparison that it saw",
}

BESIDE = [
    "## `errors/<trial_id>.txt`",
    "",
    "A text for each trial that failed or ran out of memory, beside the tables: when, why, its settings, and the",
    "traceback or the end of its process's log. A trial that fails again has both failures in it.",
]


def page() -> str:
    """A section for each table."""
    versions = f"version {SCHEMA_VERSION}" + (
        f"; versions from {OLDEST} on are read, under these names" if OLDEST < SCHEMA_VERSION else ""
    )
    lines = [f"Schema {versions}."]
    for table, about in ABOUT.items():
        lines += ["", f"## `{table}.parquet`", "", f"{about[0].upper()}{about[1:]}. Key: {', '.join(KEYS[table])}.", ""]
        lines += ["| column | type | unit | meaning |", "|---|---|---|---|"]
        for field in schema(table, ("kernel",) if table == "trials" else ()):
            said = {key.decode(): value.decode() for key, value in field.metadata.items()}
            name, meaning = f"`{field.name}`", said["meaning"]
            if table == "trials" and field.name == "kernel":
                name, meaning = "the factors", "each under its own name and type, e.g. `kernel`; null where inactive"
            lines.append(f"| {name} | {field.type} | {said['unit']} | {meaning} |")
    return "\n".join([*lines, "", *BESIDE])


if __name__ == "__main__":
    print(page())
