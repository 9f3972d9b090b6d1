"""The data, questioned: the classes of each split, what guessing reaches, what occurs twice, what was left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from resnetlab.report.findings import Findings
from resnetlab.report.layout import FOLDED, Section, Table
from resnetlab.study import class_counts

MOST = 400  # classes that a table lists
FILES = 20  # that were left out, named here


def section(findings: Findings) -> Section | None:
    """None where it was not recorded how many images each class has."""
    text: list[str] = []
    tables: list[Table] = []
    for name, data in datasets(findings).items():
        of = f" of {name}" if name else ""
        text += [f"{name}: {line}" if name else _sentence(line) for line in _lines(data)]
        tables += _tables(data, of)
    return Section("data", "The data", text, tables) if tables else None


def datasets(findings: Findings) -> dict[str, Mapping[str, Any]]:
    """What was recorded of each dataset, under its name where there are several."""
    data = findings.results.sweep.get("data") or {}
    parts = [part for part in (data, *(data.get("others") or {}).values()) if _counted(part)]
    if len(parts) < 2:
        return dict.fromkeys([""], parts[0]) if parts else {}
    return {
        f"{part.get('name')}{' ({})'.format(part['label']) if part.get('label') else ''}, dataset {number}": part
        for number, part in enumerate(parts, start=1)
    }


def doubts(findings: Findings) -> list[str]:
    """What was found before any training that lets test accuracy say less than it seems to."""
    lines = [str(line) for data in datasets(findings).values() for line in data.get("doubts") or ()]
    return list(dict.fromkeys(lines))


def _counted(data: Mapping[str, Any]) -> bool:
    counts, classes = data.get("counts"), data.get("classes")
    return (
        isinstance(counts, Mapping)
        and isinstance(classes, list)
        and "train" in counts
        and all(isinstance(held, list) and len(held) == len(classes) for held in counts.values())
    )


def _lines(data: Mapping[str, Any]) -> Iterator[str]:
    yield from class_counts.judged(data["counts"], data["classes"])
    yield from (str(line) for line in data.get("notes") or ())


def _sentence(line: str) -> str:
    return line[:1].upper() + line[1:] + ("" if line.endswith(".") else ".")


def _tables(data: Mapping[str, Any], of: str) -> Iterator[Table]:
    counts, classes = data["counts"], data["classes"]
    headings, rows = class_counts.table(counts, classes)
    kinds = ["text", "number", "number", "text", "text", "number"]
    foot = "Always the largest: the accuracy of always saying the class that the split has most of."
    yield Table([_sentence(one).rstrip(".") for one in headings], kinds, rows, foot, f"Splits{of}")
    if len(classes) <= MOST:
        named = [class_counts.WORDS.get(split, split) for split in counts]
        each = [[name, *(f"{held[at]:,}" for held in counts.values())] for at, name in enumerate(classes)]
        yield Table(
            ["Class", *(_sentence(name).rstrip(".") for name in named)], ["text", *["number"] * len(named)], each,
            "Images.", f"Images of each class{of}", folded=len(each) > FOLDED,
        )  # fmt: skip
    if skipped := data.get("skipped"):
        files = [[str(name)] for name in skipped["files"][:FILES]]
        kinds_said = ", ".join(f"{n:,} {kind}" for kind, n in skipped["kinds"].items())
        more = f" The first {FILES}." if len(skipped["files"]) > FILES else ""
        foot = f"{skipped['count']:,} of {skipped['of']:,} images, as dataset.skip allows: {kinds_said}.{more}"
        yield Table(["File"], ["code"], files, foot, f"Left out{of}", folded=True)
