from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import PositionError
from shared.position import WHOLE, Position, parse_position


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("812", Position(1, 812)),
        ("813-0", Position(1, 813, 0)),
        ("2.813-17", Position(2, 813, 17)),
        ("0", Position(1, 0)),
    ],
)
def test_a_position_reads_as_it_is_written(text: str, position: Position) -> None:
    """A whole batch has no index, the first epoch is not written."""
    assert parse_position(text) == position
    assert str(position) == text


@pytest.mark.parametrize(
    "text",
    ["", "abc", "-1", "1-", "01", "1-01", "0.5", "1.2.3", "1-2-3", " 1", "1\n", "١", "9" * 40,
     "1-4294967296"],
)  # fmt: skip
def test_garbage_is_no_position(text: str) -> None:
    """Anything else is refused (CASE 23)."""
    with pytest.raises(PositionError):
        parse_position(text)


@given(st.text())
def test_any_text_is_a_position_or_refused(text: str) -> None:
    """No text raises anything but PositionError, and what is read is written the same."""
    with contextlib.suppress(PositionError):
        assert str(parse_position(text)) in (text, text.removeprefix("1."))


def test_the_end_of_a_batch_stands_behind_its_changes() -> None:
    """Order is by batch, then index; the whole batch stands last and before the next."""
    places = [Position(1, 5, 0), Position(1, 5, 999_999_999), Position(1, 5), Position(1, 6, 0)]
    assert places == sorted(places)
    assert Position(1, 5).index == WHOLE
