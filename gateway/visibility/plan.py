"""How a table is asked about for a role: the form, and for the joined one the question."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.visibility.cohorts import KNOWN_SETTINGS
from gateway.visibility.joined.joinable import NotJoinableError, join

if TYPE_CHECKING:
    from gateway.visibility.rules import Rules


class Form(enum.StrEnum):
    """How a question is asked."""

    OPEN = "open"
    """Everybody sees every row: no RLS, or the role bypasses it."""
    CLOSED = "closed"
    """No policy lets the role see anything."""
    JOINED = "joined"
    LOOPED = "looped"


@dataclass(frozen=True, slots=True)
class Plan:
    """What follows from rules; `reason` says why a table is looped.

    `question` is the statement of the joined form. `reads` are the settings by which cohorts are
    formed.
    """

    rules: Rules
    fingerprint: str
    form: Form
    reads: tuple[str, ...]
    question: str | None = None
    reason: str | None = None

    @property
    def table(self) -> str:
        """The table as `schema.table`."""
        return f"{self.rules.schema}.{self.rules.table}"

    def as_looped(self, reason: str) -> Plan:
        """Leave the table to the loop, if policies have to be asked at all."""
        if self.form is not Form.JOINED:
            return self
        return Plan(self.rules, self.fingerprint, Form.LOOPED, KNOWN_SETTINGS, reason=reason)


def make_plan(rules: Rules, fingerprint: str, pure: frozenset[str]) -> Plan:
    """Choose the form; `pure` are functions of pg_catalog, see `join`."""
    if rules.bypass:
        return Plan(rules, fingerprint, Form.OPEN, ())
    if not any(policy.permissive for policy in rules.policies or ()):
        return Plan(rules, fingerprint, Form.CLOSED, ())
    try:
        joined = join(rules, pure)
    except NotJoinableError as error:
        return Plan(rules, fingerprint, Form.LOOPED, KNOWN_SETTINGS, reason=str(error))
    return Plan(rules, fingerprint, Form.JOINED, joined.reads, question=joined.question)
