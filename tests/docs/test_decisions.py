"""Decision records have one form, and the index lists all of them."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs/decisions"
RECORDS = sorted(FOLDER.glob("[0-9]*.md"))
SECTIONS = ["Context", "Decision", "Alternatives", "Consequences"]
STATUS = re.compile(r"accepted|superseded by \[\d+\]\(\d{4}-[a-z0-9-]+\.md\)")


def title(text: str) -> str:
    """The title of a record, with its number."""
    return text.partition("\n")[0].removeprefix("# ")


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem)
def test_form(record: Path) -> None:
    """A record has a number, status and date, and then the four sections in order."""
    text = record.read_text(encoding="utf-8")
    number, _, _ = title(text).partition(". ")
    assert number == str(int(record.name[:4]))
    head = re.match(r"# .+\n\n- Status: (.+)\n- Date: (.+)\n\n## ", text)
    assert head is not None
    assert STATUS.fullmatch(head[1])
    assert dt.date.fromisoformat(head[2])
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == SECTIONS


def test_index_lists_every_record() -> None:
    """The index links to every record, in order, under the record's own title."""
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| (\d+) \| \[(.+?)\]\((.+?)\) \|", index, re.MULTILINE)
    records = [(record, title(record.read_text(encoding="utf-8"))) for record in RECORDS]
    assert listed == [
        (number, name, record.name)
        for record, (number, _, name) in ((r, t.partition(". ")) for r, t in records)
    ]
