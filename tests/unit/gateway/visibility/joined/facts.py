"""Rules and functions to plan from."""

from __future__ import annotations

from gateway.visibility.joined.setting_expressions import Builtins
from gateway.visibility.rules import Column, Function, Need, Policy, Rules

USER = "current_setting('ayb.user_id'::text)"
BUILTINS = Builtins(
    frozenset({"lower", "count", "max", "upper", "jsonb_array_elements_text"}),
    frozenset({"lower", "upper"}),
)


def rules(*policies, **changes):
    """Rules of a table posts(id, author_id, title, published) with policies given as text."""
    names = ("id", "author_id", "title", "published")
    facts = {
        "schema": "public",
        "table": "posts",
        "bypass": False,
        "columns": tuple(Column(n, name, True) for n, name in enumerate(names, 1)),
        "needs": tuple(Need(name, "no") for name in names),
        "policies": tuple(
            policy
            if isinstance(policy, Policy)
            else Policy(name=f"p{n}", permissive=True, expression=policy)
            for n, policy in enumerate(policies)
        ),
        **changes,
    }
    return Rules(**facts)


def function(**changes):
    facts = {
        "schema": "auth",
        "name": "uid",
        "arguments": 0,
        "kind": "f",
        "language": "sql",
        "volatility": "s",
        "definer": False,
        "configured": False,
        "set": False,
        "returns": "uuid",
        "body": "SELECT current_setting('ayb.user_id')::uuid",
        "executable": True,
        "overloads": 1,
        **changes,
    }
    return Function(**facts)
