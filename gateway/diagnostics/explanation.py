"""An explanation: what decides whether a client gets the events of a row, and how it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.visibility.plan import Form
from gateway.visibility.policy_errors import explain_failure

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class PolicyVerdict:
    """What one policy decides about one image; `failure` is set if it raises."""

    name: str
    kind: str
    verdict: bool | None
    failure: str | None


@dataclass(frozen=True, slots=True)
class ChangeVerdict:
    """What the engine decides about one change of the row."""

    action: str
    at: str
    position: str | None
    """None until the relay has put it into a batch."""

    is_visible: bool | None
    """None if there is no image, or it cannot be judged."""

    is_superseded: bool
    """Whether it is withheld because the row, which the client sees, has changed since."""

    is_delivered_to_all: bool
    policies: tuple[PolicyVerdict, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that decides whether a client gets the events of a row."""

    table: str
    key: str
    role: str
    user_id: str
    form: str
    reason: str | None
    reads: tuple[str, ...]
    readable: frozenset[str]
    hidden: tuple[str, ...]
    is_shown_now: bool | None
    failure: str | None
    changes: tuple[ChangeVerdict, ...]


def lines(explanation: Explanation) -> list[str]:
    """Render an explanation as text."""
    e = explanation
    out = [
        f"table     {e.table}, row {e.key}: captured",
        f"client    role {e.role}, ayb.user_id {e.user_id or '(empty)'}",
    ]
    if not e.readable:
        out.append(f"grants    none: GRANT SELECT ON {e.table} TO {e.role}; nothing is sent")
    elif e.hidden:
        out.append(f"grants    columns hidden from the role: {', '.join(e.hidden)}")
    else:
        out.append("grants    SELECT on every column")
    out.append(
        {
            "open": "rls       does not apply (off, or bypassed by the role): every row is visible",
            "closed": "rls       no permissive policy applies to the role: no row is visible",
        }.get(e.form, f"rls       {e.form} form{f': {e.reason}' if e.reason else ''}")
    )
    if e.form in (Form.JOINED, Form.LOOPED, Form.OPAQUE):
        out.append(f"cohort    all clients of the role that share {_settings(e.reads)}")
    if e.failure is not None:
        out.append(f"error     {e.failure}")
    shown = {True: "shows it", False: "does not show it (or it is gone)", None: "raises"}
    out.append(f"now       a SELECT by this client {shown[e.is_shown_now]}")
    if not e.changes:
        out.append("changes   none in the outbox: not written since capture began, or removed")
    for change in e.changes:
        out += _change_lines(change, e)
    return out


def _change_lines(change: ChangeVerdict, explanation: Explanation) -> list[str]:
    if not explanation.readable:
        verdict = "not sent"
    elif change.is_delivered_to_all:
        verdict = "sent to every subscriber of the table, the key only"
    elif change.is_visible is None:
        verdict = "cannot be judged: the image no longer fits the table; resync was sent"
    elif change.is_superseded:
        verdict = "superseded: the row has changed since, and its later change is judged by itself"
    else:
        verdict = "visible to this client" if change.is_visible else "not visible to this client"
    where = "not yet batched by the relay" if change.position is None else f"id {change.position}"
    out = [f"change    {change.action} at {change.at}, {where}: {verdict}"]
    for policy in change.policies:
        said = (
            explain_failure(policy.failure)
            if policy.failure is not None
            else "shows it" if policy.verdict else "does not show it"
        )  # fmt: skip
        out.append(f"            {policy.kind} policy {policy.name}: {said}")
    return out


def _settings(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing: all of them"
