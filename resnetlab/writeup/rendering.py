"""Tables and paragraphs as LaTeX (booktabs, siunitx), as Markdown (with Pandoc's citations) and as CSV."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from resnetlab.writeup.markup import LATEX_HEAD, latex, markdown
from resnetlab.writeup.tables import Column, PaperTable, number

PAGE, LETTER, GAP = 345.0, 4.7, 8.0  # points: a line of LaTeX's article, a letter in \\small, between two columns
LEAST = 0.2  # of the line, for a first column that is broken into lines


@dataclass(frozen=True)
class Cite:
    """A citation at this place of a text. keys: of `references.bib`."""

    keys: tuple[str, ...]


Text: TypeAlias = Sequence[str | Cite]


def latex_text(text: Text) -> str:
    """A paragraph."""
    return "".join(f"~\\cite{{{','.join(part.keys)}}}" if isinstance(part, Cite) else latex(part) for part in text)


def markdown_text(text: Text) -> str:
    """A paragraph."""
    return "".join(
        f" [{'; '.join(f'@{key}' for key in part.keys)}]" if isinstance(part, Cite) else markdown(part) for part in text
    )


def cited(texts: Sequence[Text]) -> list[str]:
    """The keys in order of their first mention."""
    return list(dict.fromkeys(key for text in texts for part in text if isinstance(part, Cite) for key in part.keys))


def latex_table(table: PaperTable) -> str:
    """A floating table that needs the packages booktabs and siunitx, and fits a page of one column."""
    rows = [
        [_latex_cell(value, column) for value, column in zip(row, table.columns, strict=True)] for row in table.rows
    ]
    body = "\n".join(f"  {' & '.join(row)} \\\\" for row in rows)
    remarks = "".join(f"\n  \\par\\smallskip\n  {{\\footnotesize {latex(line)}\\par}}" for line in table.remarks)
    return f"""% Made by resnetlab. Needs \\usepackage{{booktabs}} and \\usepackage{{siunitx}}.
{LATEX_HEAD}
\\begin{{table}}
  \\centering
  \\small
  \\setlength{{\\abovecaptionskip}}{{0pt}}\\setlength{{\\belowcaptionskip}}{{6pt}}
  \\caption{{{latex(table.caption)}}}
  \\label{{tab:{table.name}}}
  \\sisetup{{retain-explicit-plus}}
  \\setlength{{\\tabcolsep}}{{4pt}}
  \\begin{{tabular}}{{{_specifications(table)}}}
  \\toprule
{_latex_head(table.columns)}
  \\midrule
{body}
  \\bottomrule
  \\end{{tabular}}{remarks}
\\end{{table}}
"""


def _specifications(table: PaperTable) -> str:
    """How columns are aligned: numbers at the decimal point, with room for the longest; text on lines of its own length
    where all fits the page, else broken."""
    texts = [[number(row[i], column) for row in table.rows] for i, column in enumerate(table.columns)]
    widths = [
        GAP + LETTER * max(map(len, [*cells, column.heading]))
        for cells, column in zip(texts, table.columns, strict=True)
    ]
    last = [i for i, column in enumerate(table.columns) if column.digits is None][1:]  # verdicts: short
    room = PAGE - sum(widths[1:])
    found = []
    for i, column in enumerate(table.columns):
        if column.digits is not None:
            found.append(_number_specification(texts[i], column))
        elif i in last or widths[i] <= room:
            found.append("l")
        else:
            share = max(room - GAP, LEAST * PAGE) / PAGE
            found.append(f">{{\\raggedright\\arraybackslash}}p{{{share:.2f}\\linewidth}}")
    return "".join(found)


def _number_specification(texts: Sequence[str], column: Column) -> str:
    whole = max([len(re.sub(r"\D", "", text.partition(".")[0])) for text in texts if text] or [1])
    sign = "+" if column.signed else "-" if any(text.startswith("-") for text in texts) else ""
    return f"S[table-format={sign}{whole}.{column.digits}]"


def _latex_cell(value: str | float | None, column: Column) -> str:
    text = number(value, column)
    if column.digits is None:
        return latex(text)
    if not text:
        return "{--}"
    return f"{{$<${text[1:]}}}" if text.startswith("<") else text


def _latex_head(columns: Sequence[Column]) -> str:
    """One line, or two where columns have a heading in common."""
    last = " & ".join(f"{{{latex(column.heading)}}}" for column in columns)
    if not any(column.group for column in columns):
        return f"  {last} \\\\"
    cells, rules, place = [], [], 1
    for group, some in itertools.groupby(columns, key=lambda column: column.group):
        n = len(list(some))
        cells.append(f"\\multicolumn{{{n}}}{{c}}{{{latex(group)}}}" if group else " & ".join([""] * n))
        rules += [f"\\cmidrule(lr){{{place}-{place + n - 1}}}"] if group else []
        place += n
    return f"  {' & '.join(cells)} \\\\\n  {' '.join(rules)}\n  {last} \\\\"


def markdown_table(table: PaperTable) -> str:
    """A table of pipes, with its caption below it as Pandoc has it, and the remarks."""
    heads = [f"{column.group}: {column.heading}" if column.group else column.heading for column in table.columns]
    lines = [heads, *([_markdown_cell(cell, column) for cell, column in zip(row, table.columns, strict=True)]
                      for row in table.rows)]  # fmt: skip
    lines[0] = [markdown(head) for head in heads]
    rule = ["---" if column.digits is None else "---:" for column in table.columns]
    body = "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])
    remarks = "".join(f"\n- {markdown(line)}" for line in table.remarks)
    return f"{body}\n\nTable: {markdown(table.caption)}\n" + (f"{remarks}\n" if remarks else "")


def _markdown_cell(value: str | float | None, column: Column) -> str:
    text = number(value, column)
    return markdown(text) if column.digits is None else text.replace("-", "\u2212").replace("<", "&lt;") or "\u2013"


def csv_table(table: PaperTable) -> str:
    """Every column and every digit, in the units of the results folder: accuracies are fractions."""
    return str(table.exact.to_csv(index=False, lineterminator="\n"))


def latex_list(entries: Sequence[tuple[str, str]]) -> str:
    """Terms with what is said of them."""
    items = "\n".join(f"  \\item[{{{latex(term)}}}] {latex(said)}" for term, said in entries)
    return f"\\begin{{description}}\n{items}\n\\end{{description}}\n"


def markdown_list(entries: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"- **{markdown(term)}**: {markdown(said)}" for term, said in entries) + "\n"


Writer: TypeAlias = Callable[[PaperTable], str]
