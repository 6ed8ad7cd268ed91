"""gateway.visibility.quoting: names in SQL, and text in a template."""

from __future__ import annotations

import pytest

from gateway.visibility.quoting import quote_name


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("posts", '"posts"'),
        ("Odd name", '"Odd name"'),
        ('a"; DROP TABLE b --', '"a""; DROP TABLE b --"'),
        ('""', '""""""'),
    ],
)
def test_quote_name(name, quoted):
    """A quote within a name cannot end the identifier."""
    assert quote_name(name) == quoted
