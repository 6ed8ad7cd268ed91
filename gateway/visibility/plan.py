"""How a table is asked about for a role: the form, and for the joined one the question."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.visibility.cohorts import KNOWN_SETTINGS
from gateway.visibility.joined.joinable import NotJoinableError, join
from gateway.visibility.opacity import why_certainly_opaque, why_opaque

if TYPE_CHECKING:
    from gateway.visibility.rules import Rules


class Form(enum.StrEnum):
    """How a question is asked."""

    OPEN = "open"
    """Everybody sees every row: no RLS, or the role bypasses it."""
    CLOSED = "closed"
    """No policy lets the role see anything."""
    JOINED = "joined"
    """One statement over all cohorts and images."""
    LOOPED = "looped"
    """Each cohort by itself, on images."""
    OPAQUE = "opaque"
    """A SELECT by each cohort, of rows that have not changed since."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What follows from rules; `reason` says why a table is not joined.

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

    def without_join(self, reason: str, trusted: frozenset[str] = frozenset()) -> Plan:
        """Leave the table to one of the other forms, if policies have to be asked at all."""
        if self.form is not Form.JOINED:
            return self
        return _unjoined(self.rules, self.fingerprint, reason, trusted)

    def as_opaque(self, reason: str) -> Plan:
        """Leave the table to SELECTs, if policies have to be asked at all."""
        if self.form not in (Form.JOINED, Form.LOOPED):
            return self
        return Plan(self.rules, self.fingerprint, Form.OPAQUE, KNOWN_SETTINGS, reason=reason)


def make_plan(
    rules: Rules, fingerprint: str, pure: frozenset[str], trusted: frozenset[str] = frozenset()
) -> Plan:
    """Choose the form.

    `pure` are functions of pg_catalog, see `join`; `trusted` are functions (`schema.name`) that the
    operator declared to depend on nothing but their arguments and settings.
    """
    if rules.bypass:
        return Plan(rules, fingerprint, Form.OPEN, ())
    if not any(policy.permissive for policy in rules.policies or ()):
        return Plan(rules, fingerprint, Form.CLOSED, ())
    reason = why_certainly_opaque(rules, trusted)
    if reason is not None:
        return Plan(rules, fingerprint, Form.OPAQUE, KNOWN_SETTINGS, reason=reason)
    try:
        joined = join(rules, pure)
    except NotJoinableError as error:
        return _unjoined(rules, fingerprint, str(error), trusted)
    return Plan(rules, fingerprint, Form.JOINED, joined.reads, question=joined.question)


def _unjoined(rules: Rules, fingerprint: str, reason: str, trusted: frozenset[str]) -> Plan:
    opaque = why_opaque(rules, trusted)
    form = Form.LOOPED if opaque is None else Form.OPAQUE
    return Plan(rules, fingerprint, form, KNOWN_SETTINGS, reason=opaque or reason)
