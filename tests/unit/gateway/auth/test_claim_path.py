from __future__ import annotations

from typing import Any

import pytest

from gateway.auth.claim_path import ABSENT, parse_claim_path, split_list


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("role", ("role",)),
        ("app_metadata.role", ("app_metadata", "role")),
        ('"https://x.example/role"', ("https://x.example/role",)),
        ('"https://x.example/user".team', ("https://x.example/user", "team")),
        ('a."b.c".d', ("a", "b.c", "d")),
        ('"say ""hi"""', ('say "hi"',)),
        ("https://x.example/role", ("https://x", "example/role")),
        ("a b", ("a b",)),
    ],
)
def test_a_path_is_read_as_names(text: str, names: tuple[str, ...]) -> None:
    """Dots lead into objects; a quoted name may contain dots, and quotes if doubled."""
    path = parse_claim_path(text)
    assert (path.names, path.text) == (names, text)


@pytest.mark.parametrize(
    "text", ["", ".", "a.", ".a", "a..b", '"a', 'a"b"', '"a"b', '""', '"a".', 'a"']
)
def test_what_is_no_path_is_named(text: str) -> None:
    """An empty name, or a quote that is not closed, is an error that shows the text."""
    with pytest.raises(ValueError, match="is not the path of a claim") as caught:
        parse_claim_path(text)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("text", "claims", "found"),
    [
        ('a."b"', {'a."b"': 1, "a.b": 2, "a": {"b": 3}}, 3),
        ("a.b", {"a": {"b": 1}}, 1),
        ("a.b", {"a.b": 2, "a": {"b": 1}}, 2),
        ("a.b", {"a": {"c": 1}}, ABSENT),
        ("a.b", {"a": "b"}, ABSENT),
        ("a.b", {"a": ["b"]}, ABSENT),
        ("a.b", {}, ABSENT),
        ("a", {"a": None}, None),
        ('"a.b"', {"a.b": 3, "a": {"b": 1}}, 3),
        ('"a.b"', {"a": {"b": 1}}, ABSENT),
        ('"https://x.example/u".t', {"https://x.example/u": {"t": "x"}}, "x"),
    ],
)
def test_a_claim_is_found_by_its_path(text: str, claims: dict[str, Any], found: object) -> None:
    """A claim of the whole name comes first; a quoted name never leads into an object."""
    assert parse_claim_path(text).find(claims) is found or found is not ABSENT
    assert parse_claim_path(text).find(claims) == found


def test_a_list_is_split_outside_of_quotes() -> None:
    """Commas inside double quotes belong to a name."""
    assert split_list(' a , "b,c".d ,, e ') == ["a", '"b,c".d', "e"]
    assert split_list("") == []


@pytest.mark.parametrize("text", ['a,"b', 'a",b', 'app.team="a,app.role=b"c",x'])
def test_a_quote_that_is_not_closed_is_an_error(text: str) -> None:
    """It is not dropped in silence, which would name another claim."""
    with pytest.raises(ValueError, match="a double quote that is not closed"):
        split_list(text)
