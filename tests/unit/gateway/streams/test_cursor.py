"""A cursor is a position as one number."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.streams.cursor import START, cursor_at, last_whole_batch, position_at
from shared.position import WHOLE, Position

positions = st.builds(
    Position,
    st.integers(1, 10**9 - 1),
    st.integers(0, 10**18 - 1),
    st.integers(0, 10**9 - 1) | st.just(WHOLE),
)


@given(positions)
def test_a_cursor_is_read_back_as_it_was_made(position: Position) -> None:
    """Nothing of epoch, batch or index is lost."""
    assert position_at(cursor_at(position)) == position
    assert cursor_at(position) > START


@given(positions, positions)
def test_cursors_sort_like_positions(one: Position, other: Position) -> None:
    """By epoch, then batch, then index."""
    assert (cursor_at(one) < cursor_at(other)) == (one < other)


@given(positions)
def test_reading_goes_on_after_the_last_whole_batch(position: Position) -> None:
    """A batch of which a part is still missing is read again."""
    missing = position.index != WHOLE
    assert last_whole_batch(cursor_at(position)) == max(position.batch - missing, -1)
