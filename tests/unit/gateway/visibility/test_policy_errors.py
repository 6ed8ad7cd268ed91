"""gateway.visibility.policy_errors: what a client learns of a policy that raises."""

from __future__ import annotations

import pytest

from gateway.visibility.policy_errors import NO_KEY, explain_failure


@pytest.mark.parametrize(
    ("sqlstate", "text"),
    [
        ("22012", "a policy divides by zero (SQLSTATE 22012)"),
        ("P0001", "a policy's function raises (SQLSTATE P0001)"),
        ("S3CRT", "a policy raises an error"),
        ("", "a policy raises an error"),
        (NO_KEY, "the policies can only be asked about rows by a primary key, and there is none"),
    ],
)
def test_explain_failure(sqlstate, text):
    """A known code is explained; one that a function may have chosen is not repeated."""
    assert explain_failure(sqlstate) == text
