"""A zip file with all that a reviewer needs to check a study, and the check.

Its members are stored, not compressed, in a fixed order with fixed dates: so whoever has the members can say what every
byte of the file must be, and one that was altered is found wherever it lies. `SHA256SUMS` is for those who check with
`sha256sum` alone. Hashes find damage and careless changes; against somebody who makes all of it anew there is the
file's own sha256, to be printed in the paper.
"""

from __future__ import annotations

import io
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from resnetlab import __version__, console, durable
from resnetlab.analysis.confirm.estimands import INTERACTION
from resnetlab.analysis.results import TABLES, Results
from resnetlab.errors import BadData, BadRequest, ResnetlabError
from resnetlab.report.findings import Findings
from resnetlab.report.layout import Section
from resnetlab.report.sections import declared_hypotheses, effects, interactions
from resnetlab.storage.layout import CODE, PLANS, VERSIONS
from resnetlab.storage.parquet import encode
from resnetlab.storage.results_folder import ResultsFolder
from resnetlab.storage.schema import effects_schema
from resnetlab.storage.store import read_table
from resnetlab.study.records import Phase, Status
from resnetlab.writeup.documents import as_csv, as_markdown
from resnetlab.writeup.html_tables import tables_of

SUMS, README = "SHA256SUMS", "README.txt"
RECORDS = ("study.json", "plan.json", "data.json", "warm_start.json", "sweep.json")
MOST = 2 << 30  # bytes of an archive that is read
EPOCH = (1980, 1, 1, 0, 0, 0)
CLOSE = dict(rtol=1e-9, atol=1e-12)  # another version of NumPy may round the last digits otherwise
ABOUT = """The study {study}, as resnetlab {version} recorded it.

report.html      the conclusions, to be read in a browser; it loads nothing
tables/          effects, arms and hypotheses as CSV and as text, with the methods and the checklist
plan.json        what was to be compared, written before the runs that it asks for
study.json, data.json, sweep.json, code/   the question, the data, the runs, and the study's own code
*.parquet        every trial and every epoch; effects.parquet has the comparisons

Check it with        resnetlab verify ARCHIVE
or its hashes with   sha256sum --check SHA256SUMS
Plan {plan}.
"""


def checked_name(file: Path) -> Path:
    """The same. BadRequest where it is no name of a zip file, or a folder."""
    if file.suffix.lower() != ".zip":
        raise BadRequest(f"--archive {file}: need a name that ends in .zip")
    if file.is_dir():
        raise BadRequest(f"--archive {file}: is a folder")
    return file


def write(findings: Findings, file: Path) -> str:
    """Write the archive of a folder with a plan to `file`; returns the file's sha256, 64 hexadecimal digits.

    Report and effects are made anew from the tables, so they are of one version whatever lies in the folder.
    BadRequest where the file cannot be written.
    """
    data = zipped(members(findings))
    try:
        durable.replace(file, data)
    except OSError as error:
        raise BadRequest(f"--archive {file}: cannot be written: {error.strerror or error}") from None
    return sha256(data).hexdigest()


def members(findings: Findings) -> dict[str, bytes]:
    """The content of the archive by name, without the sums."""
    from resnetlab.report.build import drawn
    from resnetlab.report.figures.catalog import gallery
    from resnetlab.report.page import page

    results = findings.results
    folder = results.folder
    found = {name: folder.read(name) for name in RECORDS}
    found |= {f"{table}.parquet": _table(folder, table) for table in TABLES}
    found |= {f"{PLANS}/{name}": folder.read(f"{PLANS}/{name}") for name in folder.names(PLANS)}
    found |= {f"{VERSIONS}/{name}": folder.read(f"{VERSIONS}/{name}") for name in folder.names(VERSIONS)}
    found |= {name: folder.read(name) for name in _code(results)}
    figures, _ = drawn(gallery(findings))
    found["report.html"] = page(findings, figures).encode("utf-8", console.ERRORS)
    found["effects.parquet"] = _effects(findings)
    for name, text in (as_csv(findings) | as_markdown(findings)).items():
        found[f"tables/{name}"] = text.encode("utf-8", "replace")
    about = ABOUT.format(study=results.study.name, version=__version__, plan=results.planned.plan_hash)
    found[README] = about.encode()
    return {name: content for name, content in found.items() if content is not None}


def _table(folder: ResultsFolder, table: str) -> bytes | None:
    """As the folder has it; of a sweep that has not ended, with the rows that are not in its Parquet file yet."""
    if not folder.names("segments"):
        return folder.read(f"{table}.parquet")
    rows = read_table(folder, table)
    return None if rows is None else encode(rows)


def _code(results: Results) -> list[str]:
    """The files of the study's own code, of every version that ran."""
    if not results.study.own.parts:
        return []
    return [f"{CODE}/{name}" for name in results.folder.everything(CODE)]


def _effects(findings: Findings) -> bytes:
    metric = findings.metric
    kind = effects_schema(metric.words, "fraction" if metric.fraction else metric.unit)
    return encode(pa.Table.from_pandas(findings.effects, kind, preserve_index=False))


def zipped(content: Mapping[str, bytes]) -> bytes:
    """The one zip file of these members, their sums added."""
    sums = "".join(f"{sha256(data).hexdigest()}  {name}\n" for name, data in sorted(content.items()))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        for name, data in [*sorted(content.items()), (SUMS, sums.encode())]:
            info = zipfile.ZipInfo(name, EPOCH)
            info.create_system, info.external_attr = 3, 0o100644 << 16
            file.writestr(info, data)
    return buffer.getvalue()


@dataclass(frozen=True)
class Checked:
    """What was found right, a line each; sha256: of the file."""

    study: str
    plan: str
    sha256: str
    lines: Sequence[str]


def verify(file: Path) -> Checked:
    """Check an archive: every byte against its hashes, the plan against the runs, the tables against the report.

    BadData, naming the file, the member and what is wrong, at the first that is not as it must be.
    """
    try:
        if file.stat().st_size > MOST:
            raise BadData(f"{file}: has {file.stat().st_size:,} bytes (allowed: {MOST:,})")
        data = file.read_bytes()
    except OSError as error:
        raise BadRequest(f"{file}: cannot be read: {error.strerror or error}") from None
    content = unzipped(data, str(file))
    if "study.json" not in content:
        raise BadData(f"{file}: study.json: is missing")
    with tempfile.TemporaryDirectory() as place:
        for name, part in content.items():
            target = Path(place, *name.split("/"))
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(part)
            except (OSError, ValueError) as error:  # two names of which one is the folder of the other, or too long
                raise BadData(f"{file}: {name[:200]!r}: cannot be unpacked ({error.__class__.__name__})") from None
        try:
            findings = Findings(Results.open(place))
            lines = [f"hashes: {len(content)} files, and every byte of the archive", *_checks(findings, content)]
        except ResnetlabError as error:  # a folder that is damaged, or no folder of results
            raise BadData(f"{file}: {_here(error, place)}") from None
    return Checked(findings.results.study.name, findings.results.planned.plan_hash, sha256(data).hexdigest(), lines)


def _here(error: Exception, place: str) -> str:
    return re.sub(rf"{re.escape(str(Path(place).resolve()))}/?|{re.escape(place)}/?", "", str(error))


def unzipped(data: bytes, place: str) -> dict[str, bytes]:
    """The members but for the sums. BadData, naming the one that is wrong, where a byte is not as it was written."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            content = {info.filename: _member(file, info, place) for info in file.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, ValueError, OverflowError) as error:
        raise BadData(f"{place}: damaged, or no archive of resnetlab: {error}") from None
    sums = content.pop(SUMS, None)
    if sums is None:
        raise BadData(f"{place}: {SUMS}: is missing: no archive of resnetlab, or altered")
    recorded = {}
    for line in sums.decode("utf-8", "replace").splitlines():
        digest, _, name = line.partition("  ")
        recorded[name] = digest
    for name, part in content.items():
        if recorded.get(name) != sha256(part).hexdigest():
            raise BadData(f"{place}: {name}: altered: its sha256 is not that in {SUMS}")
    if missing := sorted(recorded.keys() - content.keys()):
        raise BadData(f"{place}: {missing[0]}: is missing, though {SUMS} has it")
    made = zipped(content)
    if made != data:
        where = next((i for i, (one, other) in enumerate(zip(made, data, strict=False)) if one != other), len(made))
        raise BadData(f"{place}: {_owner(content, where)}: altered at byte {where:,}: not as resnetlab writes it")
    return content


def _member(file: zipfile.ZipFile, info: zipfile.ZipInfo, place: str) -> bytes:
    name = info.filename
    if not re.fullmatch(r"[^/\\\0:]+(/[^/\\\0:]+)*", name) or {".", ".."} & set(name.split("/")):
        raise BadData(f"{place}: {name!r}: is no name of a file in an archive of resnetlab")
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise BadData(f"{place}: {name}: altered: it is compressed or encrypted, which no archive of resnetlab is")
    try:
        return file.read(info)
    except (zipfile.BadZipFile, EOFError) as error:
        raise BadData(f"{place}: {name}: altered: {error}") from None


def _owner(content: Mapping[str, bytes], byte: int) -> str:
    """The member whose header or data has this byte of the archive; the archive's own index behind them all."""
    end = 0
    for name, data in sorted(content.items()):
        end += 30 + len(name.encode()) + len(data)
        if byte < end:
            return name
    return "the zip file's index"


def _checks(findings: Findings, content: Mapping[str, bytes]) -> Iterator[str]:
    results = findings.results
    if results.plan is None:
        raise BadData("plan.json: is missing")
    yield _plan_before_evidence(results)
    yield _same_effects(findings, content)
    yield _same_report(findings, content.get("report.html", b""))
    yield _same_tables(findings, content)


def _plan_before_evidence(results: Results) -> str:
    """That the runs are those of the plan as it stands, on the seeds that follow from it, begun after the search."""
    plan, study, confirm = results.planned, results.study, results.confirm
    if any("plan.json was changed" in note for note in results.notes):
        raise BadData("plan.json: was changed after it was written: its hash is another")
    if confirm.empty:
        raise BadData(f"trials.parquet: no run of plan {plan.plan_hash}")
    wanted = {(row, block): config for row, block, _, config in plan.trials(study)}
    for run in confirm.to_dict("records"):
        config = wanted.get((run["design_row"], run["seed_block"]))
        if config is None or config.seed != run["seed"] or config.trial_id != run["trial_id"]:
            raise BadData(f"trials.parquet: trial {run['trial_id']} is no run that plan {plan.plan_hash} asks for")
    explore = results.explore
    if reused := set(confirm["seed"]) & set(explore["seed"]):
        raise BadData(f"trials.parquet: seed {min(reused)} was used by the search too")
    begun, searched = confirm["started"].min(), explore["ended"].max()
    if not study.arms:
        _incumbent(results)
    if pd.notna(begun) and pd.notna(searched) and begun < searched:
        raise BadData(f"trials.parquet: a confirm run began at {begun}, before the search ended at {searched}")
    return (
        f"plan before evidence: {len(confirm)} runs carry the hash of the plan, have the seeds that are drawn from it "
        "and none of the search's, and began after the search had ended"
    )


def _incumbent(results: Results) -> None:
    """BadData where the plan was laid around another trial than the best of the search, or than the baseline where that
    is what the study asks for."""
    plan, searched = results.planned, results.study.searched
    if plan.around == "baseline":
        if plan.incumbent != results.study.baseline_values():
            raise BadData("plan.json: was laid around other settings than the baseline of study.json")
        return
    full = results.explore[results.explore["status"] == Status.COMPLETE]
    if full.empty:
        raise BadData(f"trials.parquet: no {Phase.EXPLORE} trial reached the full budget, so nothing could be chosen")
    values = searched.sign * full[searched.name].astype(float)
    best = full.assign(value=values).sort_values(["value", "number"], ascending=[False, True]).iloc[0]
    if best["trial_id"] != plan.chosen_trial:
        raise BadData(
            f"plan.json: was laid around trial {plan.chosen_trial}, but the best of the search is {best['trial_id']}"
        )


def _same_effects(findings: Findings, content: Mapping[str, bytes]) -> str:
    held = read_table(findings.results.folder, "effects") if "effects.parquet" in content else None
    if held is None:
        raise BadData("effects.parquet: is missing")
    if wrong := _differs(held.to_pandas(), findings.effects, "name"):
        raise BadData(f"effects.parquet: {wrong}: not what the trials give")
    return f"effects: {len(findings.effects)} comparisons follow from the runs"


def _differs(one: pd.DataFrame, other: pd.DataFrame, key: str) -> str:
    """Where two tables differ in more than the last digits of a number; empty where nowhere."""
    if list(one.columns) != list(other.columns) or len(one) != len(other):
        return "other rows or columns"
    for name in one.columns:
        a, b = one[name], other[name]
        if pd.api.types.is_numeric_dtype(b.dtype) and not pd.api.types.is_bool_dtype(b.dtype):
            equal = np.isclose(a.astype(float), b.astype(float), equal_nan=True, **CLOSE)
        else:
            equal = (a.fillna("").astype(str) == b.fillna("").astype(str)).to_numpy()
        if not equal.all():
            return f"{other[key].iloc[int(np.flatnonzero(~equal)[0])]}, {name}"
    return ""


def _same_report(findings: Findings, held: bytes) -> str:
    if not held:
        raise BadData("report.html: is missing")
    found = tables_of(held.decode("utf-8", "replace"))
    compared = 0
    for module in (declared_hypotheses, effects, interactions):
        section: Section | None = module.section(findings)
        if section is None:
            continue
        here = found.get(section.key, [])
        made = [[table.headings, *([_cell(cell) for cell in row] for row in table.rows)] for table in section.tables]
        if here != made:
            raise BadData(
                f"report.html: {section.title}: its tables are not those that the trials give{_versions(held)}"
            )
        compared += sum(len(table) - 1 for table in made)
    return f"report: {compared} rows of its tables of {INTERACTION}s, effects, arms and hypotheses say the same"


def _cell(value: Any) -> str:
    text = "–" if value is None or value != value else str(value)
    return " ".join(text.split())


def _versions(held: bytes) -> str:
    made = re.search(rb"resnetlab (\d[\w.]*)", held)
    version = made[1].decode() if made else "another version"
    return "" if version == __version__ else f" (it was made by resnetlab {version}, this is {__version__})"


def _same_tables(findings: Findings, content: Mapping[str, bytes]) -> str:
    made = as_csv(findings)
    for name, text in made.items():
        held = content.get(f"tables/{name}")
        if held is None:
            raise BadData(f"tables/{name}: is missing")
        one, other = (pd.read_csv(io.BytesIO(data)) for data in (held, text.encode()))
        if wrong := _differs(one, other, other.columns[0]):
            raise BadData(f"tables/{name}: {wrong}: not what the trials give")
    return f"tables: {', '.join(made)} say the same"
