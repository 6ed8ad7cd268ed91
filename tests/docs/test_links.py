"""What the documents point to exists: pages, headings, files of the repository."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("tests/*.md")])
FOLDERS = (
    "bench",
    "devstack",
    "docs",
    "gateway",
    "helm",
    "relay",
    "requirements",
    "shared",
    "tests",
)

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_FILE = re.compile(r"[\w./-]+\.(?:py|sql|md|sh|toml|ya?ml|mjs)")


def prose(document: Path) -> str:
    """The text of a page without its code blocks."""
    return _FENCE.sub("", document.read_text(encoding="utf-8"))


@cache
def anchors(document: Path) -> frozenset[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = _HEADING.findall(prose(document))
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return frozenset(heading.replace(" ", "-") for heading in plain)


@cache
def module_names() -> frozenset[str]:
    """The names of all test modules."""
    return frozenset(path.name for path in ROOT.glob("tests/**/test_*.py"))


def is_broken_link(document: Path, target: str) -> bool:
    """Whether a link leads to no file, or to no heading of that file."""
    if "://" in target or target.startswith("mailto:"):
        return False
    path, _, anchor = target.partition("#")
    page = (document.parent / path).resolve() if path else document
    return not page.exists() or bool(anchor and anchor not in anchors(page))


def is_missing_file(text: str) -> bool:
    """Whether code in a page names a file or folder of the repository that does not exist."""
    if "*" in text or "NAME" in text or "NNNN" in text:
        return False
    if text.startswith("test_") and _FILE.fullmatch(text):
        return text not in module_names()
    is_ours = text.partition("/")[0] in FOLDERS and "/" in text
    return is_ours and re.fullmatch(r"[\w./-]+", text) is not None and not (ROOT / text).exists()


def relative(document: Path) -> str:
    """A document's path, as the name of its test."""
    return str(document.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_links_lead_somewhere(document: Path) -> None:
    """Every internal link leads to a page that exists, and to a heading of it."""
    links = _LINK.findall(prose(document))
    assert [target for target in links if is_broken_link(document, target)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_named_files_exist(document: Path) -> None:
    """Every file or folder of the repository that a page names is there."""
    named = _CODE.findall(prose(document))
    assert [text for text in named if is_missing_file(text)] == []


def test_the_check_notices_what_is_missing() -> None:
    """A wrong link, a wrong heading and a wrong file are each found."""
    page = ROOT / "docs/architecture.md"
    assert is_broken_link(page, "no-such-page.md")
    assert is_broken_link(page, "security.md#no-such-heading")
    assert is_missing_file("gateway/no_such_room.py")
    assert is_missing_file("test_no_such_thing.py")
    assert not is_missing_file("application/json")
