"""gateway.visibility.joined.packed_texts: texts that Postgres splits again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.visibility.joined.packed_texts import PackedTexts, pack

_AWKWARD = st.text(alphabet="\x1f0n ul1", max_size=6) | st.sampled_from(
    ["", "\x1f", "\x1f0\x1f", "\x1f0", "0\x1f", "null0null", "null"]
)


def unpack(packed: PackedTexts) -> list[str | None]:
    """Split as `(string_to_array(text, separator, null))[2:]` does."""
    parts = packed.text.split(packed.separator) if packed.text else []
    return [None if part == packed.null else part for part in parts][1:]


@given(st.lists(_AWKWARD | st.none(), max_size=6))
def test_texts_come_back(texts):
    """Whatever texts contain, they are told apart, and from NULL."""
    assert unpack(pack(texts)) == texts


def test_ordinary_texts_are_separated_by_one_character():
    """Nothing but a control character lies between ordinary texts."""
    assert pack(["a", "b"]) == PackedTexts("\x1fa\x1fb", "\x1f", None)


def test_no_text_and_an_empty_one_differ():
    """An array of one empty text is not an empty array."""
    assert pack([]).text != pack([""]).text
