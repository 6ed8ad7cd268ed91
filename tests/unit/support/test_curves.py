"""The curves of an endurance run."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from tests.soak.curves import Curves, Limit, not_back


def curves() -> Curves:
    """Two samples, of which the second lacks a measure and has another."""
    made = Curves()
    made.add(0.0, {"files": 4.0, "a & b": 0.0})
    made.add(5.0, {"files": 8.0, "late": 1.5})
    return made


def test_csv() -> None:
    """A column for each measure, in the order in which they came; what was not taken is empty."""
    assert curves().csv().split() == ["second,files,a", "&", "b,late", "0.0,4,0,", "5.0,8,,1.5"]


def test_svg() -> None:
    """A line for each measure, from 0 to its greatest value."""
    drawing = ET.fromstring(curves().svg())
    lines = [line.get("points") for line in drawing.iter("{http://www.w3.org/2000/svg}polyline")]
    assert lines == ["200.0,28.0 840.0,8.0", "200.0,104.0", "840.0,120.0"]
    assert Curves().svg().startswith("<svg")


def test_what_did_not_come_back() -> None:
    """A measure may be a factor and an amount above its beginning, and no more."""
    limits = {"files": Limit(1.5, 2), "late": Limit(1, 0)}
    begin = {"files": 4.0, "late": 1.0}
    assert not not_back(begin, {"files": 8.0, "late": 1.0}, limits)
    found = not_back(begin, {"files": 8.5, "late": 1.0}, limits)
    assert found == ["files: 4 at the beginning, 8.5 at the end, at most 8 expected"]
