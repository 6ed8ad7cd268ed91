"""`python -m bench simulate`, and the tables of docs/scale.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.model import costs, scale_page, simulate
from bench.model.usage import Deployment
from bench.reports.document import Document, encode
from bench.reports.figure import OURS
from tests.unit.bench.model.test_costs import document
from tests.unit.bench.model.test_usage import COSTS

VALUES = {name: getattr(COSTS, name) for name in costs.NAMES}


def run() -> Document:
    """Return a run of `scale` that has everything."""
    found = document(**VALUES)
    [report] = found.reports
    figure = report.figure(scale_page.CHECK, "Check", "ms", peer=scale_page.PREDICTED)
    report.add(figure, "relay: wide, 1 gateway", {OURS: 50.0, scale_page.PREDICTED: 55.0})
    report.add(figure, "relay: wide, 4 gateways", {OURS: 0.0, scale_page.PREDICTED: 0.0})
    report.add(figure, "relay: lonely, 1 gateway", {OURS: 9.0, scale_page.PREDICTED: 9.0})
    return found


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Return the path of such a run as JSON."""
    path = tmp_path / "costs.json"
    path.write_bytes(encode(run()))
    return str(path)


def test_it_says_what_is_used_and_what_is_full_first(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the gateways and read servers that are needed."""
    assert simulate.main(["--project", "chat", "--clients", "100000", "--costs", file]) == 0
    said = capsys.readouterr().out
    assert "100,000 clients" in said
    assert "read servers, CPU" in said
    assert "First full, at" in said
    assert "Too full now" not in said


def test_what_is_too_full_is_named_with_what_to_do(
    file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each part by itself."""
    given = "--clients 10_000_000 --gateways 1000 --regions 4 --read-servers 1 --events 20,000"
    assert simulate.main([*given.split(), "--ticks-only", "--costs", file]) == 0
    said = capsys.readouterr().out
    assert "4 regions with 1 read servers each" in said
    assert "Too full now: relay, CPU" in said
    assert "wide area" in said


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("", "--clients or --project is needed"),
        ("--clients 0", "invalid positive number value"),
        ("--clients many", "invalid positive number value"),
        ("--clients 10 --gateways 1 --regions 2", "each region needs a gateway"),
        ("--clients 10 --events 1000000", "no number of gateways is enough"),
        ("--project shop", "invalid choice"),
    ],
)
def test_what_cannot_be_is_refused(
    file: str, capsys: pytest.CaptureFixture[str], given: str, complaint: str
) -> None:
    """With a sentence that says why."""
    with pytest.raises(SystemExit) as ended:
        simulate.main([*given.split(), "--costs", file])
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_costs_that_cannot_be_read_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is not there, and one that is none of a benchmark."""
    wrong = tmp_path / "wrong.json"
    wrong.write_text("[]")
    for path in (tmp_path / "missing.json", wrong):
        assert simulate.main(["--clients", "10", "--costs", str(path)]) == 2
        assert path.name in capsys.readouterr().err


def test_options_are_named_like_what_they_set() -> None:
    """Each number of a deployment can be given."""
    names = {name.replace("-", "_") for name in simulate.OPTIONS}
    assert names == set(Deployment.__dataclass_fields__) - {"ticks_only"}


def test_the_page_gets_the_tables_of_a_run(
    tmp_path: Path, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its marks, and all of them."""
    page = tmp_path / "scale.md"
    marks = ("machine", "costs", "check", "large", "projects")
    page.write_text("\n".join(f"<!-- bench: {name} -->\n<!-- end -->" for name in marks))
    monkeypatch.setattr(scale_page, "PAGE", page)
    assert simulate.main(["--page", "--costs", file]) == 0
    made = page.read_text()
    assert "|  | 1 gateway | 4 gateways |" in made
    assert "| relay: wide | 50.0 (55.0, +10%) | 0 (0) |" in made
    assert "| relay: lonely | 9.00 (9.00, +0%) |  |" in made
    assert "| `question_us` | 2,000 µs |" in made
    assert "| dashboard | 10,000 | 1 |" in made
    assert "| gateway, CPU |" in made
    assert "Load average" in made


def test_the_page_is_made_from_the_run_that_is_kept() -> None:
    """`python -m bench simulate --page` would change nothing."""
    text = scale_page.PAGE.read_text("utf-8")
    assert scale_page.made(text, simulate.kept_run()) == text
