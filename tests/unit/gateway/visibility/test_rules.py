"""gateway.visibility.rules: rules from the catalogs, and what an image tells policies."""

from __future__ import annotations

import json

import pytest

from gateway.visibility.rules import Column, Doubt, KeyColumn, Need, Policy, decode_rules
from tests.unit.gateway.visibility.joined.facts import rules

MALFORMED = [b"", b"{", b"[1]", b"null", b'{"title": }', b'{"title": ' + b"[" * 5000 + b"1"]


def test_decode_rules():
    """Rules are read as `ayb_realtime.rules` writes them: columns are arrays, texts `using`."""
    found = decode_rules(
        json.dumps(
            {
                "schema": "public",
                "table": "posts",
                "bypass": False,
                "columns": [[1, "id", True], [2, "secret", False, "740", "stamp"]],
                "needs": [["id", "no"]],
                "policies": [{"name": "p", "permissive": True, "using": "(id > 0)"}],
            }
        )
    )
    assert found.columns == (Column(1, "id", True), Column(2, "secret", False, "740", "stamp"))
    assert found.policies == (Policy("p", True, "(id > 0)"),)
    assert found.needs == (Need("id", "no"),)
    assert found.readable == {"id"}
    assert found.functions is None


@pytest.mark.parametrize(
    ("undecidable", "value", "judged"),
    [
        ("no", "1", "1"),
        ("no", "null", "null"),
        ("null", "1", "1"),
        ("null", "[null]", "[null]"),
        ("null", "null", None),
        ("any", "[1]", "[1]"),
        ("any", "[1,null]", None),
        ("any", "null", None),
        ("all", "1", None),
        ("opaque", "1", None),
    ],
)
def test_values_that_leave_open_what_they_were(undecidable, value, judged):
    """An image is undecidable where a value that a policy reads could have been another one."""
    image = f'{{"id":7,"title":{value},"further":null}}'.encode()
    read = rules(needs=(Need("title", undecidable),)).judged_image(image)
    assert read == (None if judged is None else f'{{"title":{judged}}}')


def test_judged_image_has_only_what_policies_read():
    """Columns that no policy reads are left out, and values stay as they were written."""
    read = rules(needs=(Need("title", "no"), Need("id", "no")))
    assert read.judged_image(b'{"id": 1.50, "title": "\\u00e4", "x": 1}') == (
        '{"title":"\\u00e4","id":1.50}'
    )
    assert rules(needs=None).judged_image(b'{"id": 1}') == "{}"


def test_missing_column_is_undecidable():
    """A column that an image lacks is not taken for NULL: policies cannot judge the image."""
    assert rules(needs=(Need("title", "no"),)).judged_image(b'{"id": 1}') is None


@pytest.mark.parametrize("image", MALFORMED)
def test_malformed_images_are_undecidable(image):
    """What is no object of JSON is undecidable, and may mean any column."""
    assert rules(needs=()).judged_image(image) is None
    assert rules(reused={"title": 10}).means_others(image, 10)


@pytest.mark.parametrize(
    ("reused", "image", "seq", "is_whole", "means_others"),
    [
        (None, b'{"title": 1}', 1, True, False),
        ({}, b'{"title": 1}', 1, True, False),
        ({"title": 10}, b'{"title": 1}', 11, True, False),
        ({"title": 10}, b'{"title": 1}', 10, True, True),
        ({"title": 10}, b'{"id": 1}', 10, True, False),
        ({"title": 10}, b'{"id": 1}', 10, False, True),
        ({"title": 10, "id": 5}, b'{"id": 1}', 6, True, False),
        ({"title": 10, "id": 5}, b'{"id": 1}', 5, True, True),
    ],
)
def test_names_that_were_taken_over(reused, image, seq, is_whole, means_others):
    """A change up to the last one before a name was taken over may mean the column before it."""
    assert rules(reused=reused).means_others(image, seq, is_whole=is_whole) is means_others


@pytest.mark.parametrize(
    ("doubt", "image", "seq", "is_doubtful"),
    [
        (Doubt("state", "draft", 10), b'{"state":"draft"}', 10, True),
        (Doubt("state", "draft", 10), b'{"state":"draft"}', 11, False),
        (Doubt("state", "draft", 10), b'{"state":"drafts"}', 10, False),
        (Doubt("state", "draft", 10), b'{"state":["public","draft"]}', 10, True),
        (Doubt("state", "draft", 10), b'{"state":"[0:0]={public}"}', 10, True),
        (Doubt("state", 'a"b', 10), b'{"state":"a\\"b"}', 10, True),
        (Doubt("state", "draft", 10), b'{"state":null}', 10, False),
        (Doubt("state", None, 10), b'{"state":null}', 10, False),
        (Doubt("state", None, 10), b'{"state":0}', 10, True),
        (Doubt("other", None, 10), b'{"state":0,"other":0}', 10, False),
        (Doubt("state", None, 10), b'{"other":0}', 10, False),
        *((Doubt("state", None, 10), image, 10, True) for image in MALFORMED),
    ],
)
def test_values_that_may_have_meant_others(doubt, image, seq, is_doubtful):
    """A value that decides is in doubt up to the change that may be older than its meaning."""
    found = rules(doubtful=(doubt,))
    assert found.means_other_values(image, seq, {"state"}) is is_doubtful


def test_columns_that_decide():
    """Policies read columns, and a SELECT finds a row by its key."""
    found = rules(needs=(Need("title", "no"),), key=(KeyColumn("id", "int4", "="),))
    assert found.needed == {"title"}
    assert found.key_names == {"id"}
    assert not found.means_other_values(b"{}", 1, {"title"})
