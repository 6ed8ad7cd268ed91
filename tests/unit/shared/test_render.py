"""Row images as clients see them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.render import DEEPEST, UnreadableImageError, render


@pytest.mark.parametrize(
    ("image", "stamps", "rendered"),
    [
        ('{"at":"2026-02-07T22:00:00+00:00"}', ["at"], '{"at":"2026-02-07T22:00:00Z"}'),
        (
            '{"at":"2026-02-07T22:00:00.123456+00:00"}',
            ["at"],
            '{"at":"2026-02-07T22:00:00.123456Z"}',
        ),
        ('{"at":"infinity","b":"x+00:00"}', ["at"], '{"at":"infinity","b":"x+00:00"}'),
        ('{"at":null,"b":"x+00:00"}', ["at"], '{"at":null,"b":"x+00:00"}'),
        ('{"at":"0044-03-15T00:00:00+00:00 BC"}', ["at"], '{"at":"0044-03-15T00:00:00+00:00 BC"}'),
        ('{"a":["2026-01-01T00:00:00+00:00"]}', ["a"], '{"a":["2026-01-01T00:00:00+00:00"]}'),
        (
            '{"n":9007199254740993,"x":1.50,"at":"2026-01-01T00:00:00+00:00","j":{"k": 1.0}}',
            ["at"],
            '{"n":9007199254740993,"x":1.50,"at":"2026-01-01T00:00:00Z","j":{"k": 1.0}}',
        ),
        (
            '{"Gr\\"öße":"2026-01-01T00:00:00+00:00"}',
            ['Gr"öße'],
            '{"Gr\\"öße":"2026-01-01T00:00:00Z"}',
        ),
        ('{"at":"2026-01-01T00:00:00+00:00"}', [], '{"at":"2026-01-01T00:00:00+00:00"}'),
        ('{"j":{"a":\r\n1,\n"b":2}}', [], '{"j":{"a":  1, "b":2}}'),
        ("{}", ["gone"], "{}"),
    ],
)
def test_render(image: str, stamps: list[str], rendered: str) -> None:
    """Stamps at the top level end in Z, line breaks become blanks, all other bytes stay."""
    assert render(image.encode(), stamps) == rendered.encode()


def test_too_deep() -> None:
    """What decoders on the way would refuse is refused here; brackets in text do not count."""
    ok = b'{"j":%b%b}' % (b"[" * (DEEPEST - 1), b"]" * (DEEPEST - 1))
    assert render(ok, []) == ok
    text = b'{"t":"%b \\" %b"}' % (b"[" * 500, b"{" * 500)
    assert render(text, []) == text
    wide = b'{"j":[%b]}' % b",".join([b"[]"] * 1000)
    assert render(wide, []) == wide
    with pytest.raises(UnreadableImageError):
        render(b'{"j":%b%b}' % (b"[" * DEEPEST, b"]" * DEEPEST), [])


def test_no_object() -> None:
    """An image that is not a JSON object is recognised as such."""
    with pytest.raises(UnreadableImageError):
        render(b'["2026-01-01T00:00:00+00:00"]', ["at"])


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(min_size=1), _json), st.text(min_size=1), st.integers(0, 3))
def test_nothing_else_changes(row: dict[str, object], stamp: str, indent: int) -> None:
    """For any row: one line, the same keys in the same order, the same values but for the stamp."""
    row[stamp] = "2026-01-01T00:00:00+00:00"
    image = json.dumps(row, indent=indent or None, ensure_ascii=False).encode("utf-8", "replace")
    rendered = render(image, [stamp])
    assert b"\n" not in rendered
    expected = json.loads(image)
    expected[stamp] = "2026-01-01T00:00:00Z"
    assert list(json.loads(rendered).items()) == list(expected.items())


@pytest.mark.parametrize("stamps", [[], ["at"]])
def test_half_of_a_surrogate_pair(stamps: list[str]) -> None:
    """Postgres stores half of a surrogate pair as `json`; no client could decode it."""
    with pytest.raises(UnreadableImageError):
        render(b'{"at":"2026-01-01T00:00:00+00:00","j":"\\ud800"}', stamps)


def test_escapes_stay() -> None:
    """An image with escapes that mean something is passed on byte for byte."""
    for image in (b'{"t":"\\u0041"}', b'{"t":"\\ud83d\\ude00"}'):
        assert render(image, []) == image
