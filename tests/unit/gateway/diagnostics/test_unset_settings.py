"""gateway.diagnostics.unset_settings: policies that read what nothing sets."""

from __future__ import annotations

import pytest

from gateway.diagnostics.unset_settings import unset_settings
from tests.unit.gateway.visibility.joined.facts import function, rules


@pytest.mark.parametrize(
    ("policy", "body", "names"),
    [
        ("(a = current_setting('app.user_id'::text, true))", None, ["app.user_id"]),
        ("(a = current_setting('AYB.User_ID'::text))", None, []),
        ("(a = auth.uid())", "SELECT current_setting('jwt.claims.user_id', true)",
         ["jwt.claims.user_id"]),
        ("(a = auth.uid())", ("SELECT coalesce(current_setting('request.jwt.claim.sub', true), "
         "current_setting('request.jwt.claims')::json ->> 'sub')"), []),
        ("(current_setting('search_path'::text) = a)", None, []),
        ("(a = auth.uid())", "SELECT 'not closed", []),
        ("(a = auth.uid())", "SELECT $1", []),
    ],
)  # fmt: skip
def test_unset_settings(policy, body, names):
    """A setting of another name is told, unless the same text reads one of ours as well."""
    assert unset_settings(rules(policy, functions=(function(body=body),))) == names
    assert unset_settings(rules(policy, nested_functions=(function(body=body),))) == names
