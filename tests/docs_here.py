"""Files of docs/own-code.md, as its readers would write them."""

import re
from pathlib import Path
from typing import Any

from resnetlab.experiment import own
from resnetlab.study import Study

PAGE = Path(__file__).resolve().parents[1] / "docs/own-code.md"


def written(place: Path, *names: str) -> None:
    """Write the files of these names, with the folders that they lie in, into `place`."""
    page = PAGE.read_text()
    for name in names:
        block = re.search(rf"<!-- file: {re.escape(name)} -->\n```\w+\n(.*?)```", page, re.S)
        assert block is not None, name
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(block[1])


def of_the_docs(place: Path, *names: str, **changes: Any) -> Study:
    """The study, which is the last of these files."""
    written(place, *names)
    return own.load(place / names[-1], changes)
