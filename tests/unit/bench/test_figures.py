"""Figures, and how they are written as text, plots, JSON and parts of a page."""

from __future__ import annotations

import itertools
from xml.etree import ElementTree as ET

import pytest

import bench.benchmarks.storm
from bench import runner
from bench.__main__ import main
from bench.catalogue import Benchmark
from bench.reports.document import Document, Machine, decode, encode
from bench.reports.figure import Case, Figure
from bench.reports.measured import Measured, percentile
from bench.reports.page import filled, report_text, write_page
from bench.reports.plots import plot, write_plots
from bench.reports.report import NotPossibleError, Report
from bench.reports.tables import (
    markdown_table,
    measured,
    number,
    quotient,
    rows,
    summary,
    text_table,
)
from bench.runner import remaining_seconds, run_one
from bench.size import Size

SVG = "{http://www.w3.org/2000/svg}"
MACHINE = Machine("a processor", 2, 23.5, "Linux 6", "3.11")


def figure(**options) -> Figure:
    """Two cases, the second without the peer."""
    made = Figure("fanout", "One event & many <clients>", "µs", peer="nchan", **options)
    made.cases = [
        Case("100", {"nchan": Measured.of([2.0]), "ours": Measured.of([3.0, 4.0, 5.0])}, x=100),
        Case("2,000", {"ours": Measured.of([8.0])}, x=2_000, note="by | itself"),
    ]
    return made


def report() -> Report:
    """A report with that figure."""
    made = Report("fanout", figures=[figure()], checked="All is right.", load_before=1.0)
    made.expect("ours / nchan", want="at most 1", got="2.00", holds=False)
    made.leave_out("Node", "node is not installed")
    made.leave_out("Node", "node is not installed")
    return made


def document(*reports: Report) -> Document:
    """A run."""
    return Document(MACHINE, "quick", "2026-01-01T00:00:00+00:00", "abc1234", list(reports))


def test_median_and_quartiles() -> None:
    """The median and half the distance between the quartiles; one repetition has no spread."""
    assert Measured.of([5.0, 1.0, 3.0]) == Measured(3.0, 2.0, 4.0, 3)
    assert Measured.of([1.0, 5.0, 3.0]).spread == 1.0
    assert Measured.of([7.0]) == Measured(7.0, 7.0, 7.0, 1)
    with pytest.raises(ValueError, match="nothing was measured"):
        Measured.of([])


def test_percentile() -> None:
    """The nearest rank, in any order of the values."""
    assert percentile([3.0, 1.0, 2.0, 4.0], 0.5) == 3.0
    assert percentile([3.0, 1.0, 2.0, 4.0], 1.0) == 4.0


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0001234, "0.00012"), (0.0382, "0.038"), (1.5, "1.50"), (11.63, "11.6"),
     (99.96, "100"), (20590.4, "20,590"), (-2.0, "-2.00")],
)  # fmt: skip
def test_numbers_have_three_digits(value: float, text: str) -> None:
    """Three digits that count."""
    assert number(value) == text


def test_ratio() -> None:
    """Ours divided by the peer, where both were measured and there is something to divide by."""
    made = figure()
    assert made.ratio(made.cases[0]) == 2.0
    assert made.ratio(made.cases[1]) is None
    assert made.contenders == ["ours", "nchan"]
    assert made.ratio(Case("", {"ours": Measured.of([1]), "nchan": Measured.of([0])})) is None


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(None, ""), (0.00443, "0.0044"), (0.75, "0.75"), (6.4321, "6.43"), (110.5, "110")],
)
def test_ratios(ratio: float | None, text: str) -> None:
    """At least two digits that count."""
    assert quotient(ratio) == text


def test_tables() -> None:
    """Ours first, then peers, the ratio, and notes; what was not measured is empty."""
    table = rows(figure())
    assert table == [
        ["", "ours", "nchan", "ours / nchan", ""],
        ["100", "4.00 ±0.500", "2.00", "2.00", ""],
        ["2,000", "8.00", "", "", "by | itself"],
    ]
    assert markdown_table(table).splitlines()[1:] == [
        "| --- | --- | --- | --- | --- |",
        "| 100 | 4.00 ±0.500 | 2.00 | 2.00 |  |",
        "| 2,000 | 8.00 |  |  | by \\| itself |",
    ]
    assert text_table([["a", "b"], ["cc", "10"]], indent="") == "a    b\ncc  10"
    assert measured(None) == ""


def test_summary_names_what_is_wrong() -> None:
    """Each case, and below it what was missed, left out, or failed."""
    text = summary(document(report(), Report("burst", error="RuntimeError: 3 events are missing")))
    assert "One event & many <clients>, 100" in text
    assert "missed: ours / nchan: wanted at most 1, got 2.00" in text
    assert text.count("left out of fanout: Node: node is not installed") == 1
    assert "FAILED: burst: RuntimeError: 3 events are missing" in text


def test_json_and_back() -> None:
    """What `--json` writes is read again; anything else is one error."""
    whole = document(report())
    assert decode(encode(whole)) == whole
    for wrong in (b"{", b"[]", b'{"machine": 1}'):
        with pytest.raises(ValueError, match="not the report of a benchmark"):
            decode(wrong)


@pytest.mark.parametrize("axis", ["", "clients"])
def test_a_plot_is_well_formed_and_described(axis: str) -> None:
    """Each plot is XML, with a title, all values in words, and colours for dark pages."""
    text = plot(figure(axis=axis))
    drawing = ET.fromstring(text)
    assert drawing.get("role") == "img"
    assert drawing.findtext(f"{SVG}title") == "One event & many <clients>"
    told = drawing.findtext(f"{SVG}desc")
    assert told == "µs, less is better. 100: nchan 2.00, ours 4.00; 2,000: ours 8.00"
    assert "prefers-color-scheme:dark" in text
    assert len(drawing.findall(f"{SVG}circle")) == (3 if axis else 0)
    shown = {element.text for element in drawing.iter(f"{SVG}text")}
    assert {"ours", "nchan"} <= shown


def test_bars_are_as_long_as_their_values() -> None:
    """Bars start at zero and are proportional, unless the values are far apart."""
    drawing = ET.fromstring(plot(figure()))
    widths = [float(bar.get("width", "")) for bar in drawing.iter(f"{SVG}rect")][2:]
    assert [round(width / widths[0], 2) for width in widths] == [1.0, 2.0, 4.0]
    far = figure()
    far.cases[1] = Case("2,000", {"ours": Measured.of([10_000.0])})
    text = plot(far)
    assert "logarithmic" in text
    widths = [float(bar.get("width", "")) for bar in ET.fromstring(text).iter(f"{SVG}rect")][2:]
    assert widths == sorted(widths)
    assert widths[2] < 20 * widths[0]


def test_plots_of_equal_or_no_values() -> None:
    """A figure whose values are all zero or alike is drawn; one without cases is not."""
    flat = Figure("flat", "Flat", "s", axis="x")
    flat.cases = [Case(str(x), {"ours": Measured.of([0.0])}, x=x) for x in (1, 2)]
    ET.fromstring(plot(flat))
    flat.axis = ""
    ET.fromstring(plot(flat))


def test_write_plots(tmp_path) -> None:
    """A file for each figure that has cases."""
    made = report()
    made.figures.append(Figure("empty", "Empty", "s"))
    assert write_plots(document(made), tmp_path / "new") == [tmp_path / "new/fanout.svg"]


PAGE = """# Page
<!-- bench: machine -->
<!-- end -->
between
<!-- bench: fanout -->
old
<!-- end -->
<!-- bench: burst -->
kept
<!-- end -->
"""


def test_sections_are_filled() -> None:
    """Marked sections are replaced, others kept, and names without a section are returned."""
    text, unused = filled(PAGE, {"fanout": "new\\1", "storm": "x"})
    assert "<!-- bench: fanout -->\n\nnew\\1\n\n<!-- end -->" in text
    assert "old" not in text
    assert "<!-- bench: burst -->\nkept\n<!-- end -->" in text
    assert unused == ["storm"]
    again, _ = filled(text, {"fanout": "new\\1"})
    assert again == text


def test_a_report_becomes_a_page(tmp_path, capsys) -> None:
    """Figures, expectations and what was left out; a benchmark that failed leaves its section."""
    page = tmp_path / "benchmarks.md"
    page.write_text(PAGE)
    run = tmp_path / "run.json"
    run.write_bytes(encode(document(report(), Report("burst", error="it failed"), Report("new"))))
    assert write_page([run], page=page, images=tmp_path / "images/bench") == 0
    text = page.read_text()
    assert report_text(report()) in text
    assert "![One event & many <clients>](images/bench/fanout.svg)" in text
    assert "**Missed**: ours / nchan: wanted at most 1, got 2.00" in text
    assert "a processor, 2 cores" in text
    assert "kept" in text
    assert (tmp_path / "images/bench/fanout.svg").exists()
    assert "no section for new" in capsys.readouterr().err


def test_a_file_that_is_no_report(tmp_path, capsys) -> None:
    """One line that names the file, and the page stays as it was."""
    page = tmp_path / "benchmarks.md"
    page.write_text(PAGE)
    wrong = tmp_path / "wrong.json"
    assert write_page([wrong], page=page, images=tmp_path) == 1
    wrong.write_text("{}")
    assert write_page([wrong], page=page, images=tmp_path) == 1
    assert capsys.readouterr().err.count("wrong.json") == 2
    assert page.read_text() == PAGE


def test_time_that_remains() -> None:
    """As expected at first; later slower or faster by as much as what is done."""
    benchmarks = [Benchmark(str(n), "", full_seconds=100, quick_seconds=10) for n in range(4)]
    assert remaining_seconds(benchmarks, 0, 0.0, Size.FULL) == 400
    assert remaining_seconds(benchmarks, 2, 400.0, Size.FULL) == 400
    assert remaining_seconds(benchmarks, 3, 15.0, Size.QUICK) == 5


@pytest.mark.parametrize(
    ("arguments", "why"),
    [(["report"], "report needs the JSON files of a run"),
     (["fanout", "run.json"], "only report takes files"),
     (["fast"], "invalid choice: 'fast'")],
)  # fmt: skip
def test_a_wrong_command_line(arguments: list[str], why: str, capsys) -> None:
    """One line that says what is wrong."""
    with pytest.raises(SystemExit):
        main(arguments)
    assert why in capsys.readouterr().err


def test_no_time_is_left(monkeypatch, capsys) -> None:
    """What would take longer than there is time for is left out, with the reason."""
    monkeypatch.setattr(runner, "_run_apart", lambda benchmark, *_: Report(benchmark.name))
    reports = runner.run_all(Size.QUICK, most_seconds=45).reports
    left_out = {report.name for report in reports if report.left_out}
    assert {"fanout", "scale"} <= left_out
    assert "connect" not in left_out
    assert "only 45 s of the time left" in capsys.readouterr().out


def test_a_benchmark_that_fails_is_reported(monkeypatch, capsys) -> None:
    """Whatever it raises is in its report; a benchmark that cannot be run here is left out."""
    errors = itertools.cycle([RuntimeError("3 events are missing"), NotPossibleError("no cc")])

    def run(size: Size) -> Report:
        raise next(errors)

    monkeypatch.setattr(bench.benchmarks.storm, "run", run)
    [failed] = run_one("storm", Size.SMOKE).reports
    assert failed.error == "RuntimeError: 3 events are missing"
    [not_possible] = run_one("storm", Size.SMOKE).reports
    assert not_possible.error == ""
    assert not_possible.left_out[0].reason == "no cc"
    assert "left out: the whole benchmark: no cc" in capsys.readouterr().out
