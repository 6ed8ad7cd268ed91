"""How a table is asked about for a role: the form, and for the joined one the question."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gateway.visibility.cohorts import KNOWN_SETTINGS
from gateway.visibility.joined.candidates import comparable
from gateway.visibility.joined.joinable import NotJoinableError, join
from gateway.visibility.joined.statement import key_query, value_query
from gateway.visibility.opacity import why_bound_late, why_certainly_opaque, why_opaque

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gateway.visibility.joined.candidates import Demand
    from gateway.visibility.joined.joinable import Draft
    from gateway.visibility.joined.setting_expressions import Builtins
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

    `question` is the statement of the joined form, and `question_of_few` a shorter one for few
    cohorts; there is only a `draft` of them until the types of what they compute are known. `reads`
    are the settings by which cohorts are formed.

    `kept` and `computed` are the queries for the setting expressions of either kind, `kept_values`
    the number of the former, `computed_texts` the latter as policies have them. `keys` is the query
    for what the images have in columns by which computed sets are limited, or which functions are
    given (`is_given`). `others` are names and values, in turn, of further settings that the kept
    ones were computed under. `names` are those of all settings that clients have. `demands` tell
    which cohorts need not be asked about: see `gateway.visibility.joined.candidates`.
    """

    rules: Rules
    fingerprint: str
    form: Form
    reads: tuple[str, ...]
    question: str | None = None
    question_of_few: str | None = None
    reason: str | None = None
    draft: Draft | None = None
    kept: str | None = None
    kept_values: int = 0
    computed: str | None = None
    computed_texts: tuple[str, ...] = ()
    keys: str | None = None
    is_given: bool = False
    others: tuple[str | None, ...] = ()
    names: tuple[str, ...] = KNOWN_SETTINGS
    demands: tuple[Demand, ...] = ()
    selects_rest: bool = False

    @property
    def table(self) -> str:
        """The table as `schema.table`."""
        return f"{self.rules.schema}.{self.rules.table}"

    @property
    def asks_only_builtins(self) -> bool:
        """Whether the joined question runs no code of the database's users.

        Its functions are Postgres' own in any case (`gateway.visibility.joined.joinable`), unless
        values are computed in it. So what is left is what pure expressions may run without naming
        it: operators, casts, checks of domains, and what other tables bring along.
        """
        rules = self.rules
        return self.question is not None and self.computed is None and not (
            rules.relations or rules.nested_relations or rules.nested_functions or rules.types
            or rules.operators or rules.own_operators or rules.others or rules.casts
            or rules.json_casts or rules.own_types
        )  # fmt: skip

    @property
    def keeps_only_builtins(self) -> bool:
        """Whether computing the kept values runs no code of the database's users either."""
        return self.asks_only_builtins and not self.rules.functions

    def without_join(self, reason: str, trusted: frozenset[str] = frozenset()) -> Plan:
        """Leave the table to one of the other forms, if policies have to be asked at all."""
        if self.form is not Form.JOINED:
            return self
        return _unjoined(self.rules, self.fingerprint, reason, trusted, self.names)

    def as_opaque(self, reason: str) -> Plan:
        """Leave the table to SELECTs, if policies have to be asked at all."""
        if self.form not in (Form.JOINED, Form.LOOPED):
            return self
        return Plan(
            self.rules, self.fingerprint, Form.OPAQUE, self.names, reason=reason, names=self.names
        )

    def completed(
        self,
        types: Sequence[str],
        others: Sequence[str | None],
        array_types: Mapping[str, str | None],
    ) -> Plan:
        """Write the statement from the draft.

        `types` are those of its setting expressions, of the columns that functions are given, and
        of arrays of its keys; `array_types` those of arrays of the columns that its demands are
        about.
        """
        assert self.draft is not None  # noqa: S101 (for the type checker)
        last = len(self.draft.expressions) + len(self.draft.given)
        given = dict(zip(self.draft.given, types[len(self.draft.expressions) : last], strict=True))
        keys = dict(zip(self.draft.keys, types[last:], strict=True))
        tuples = self.draft.tuples
        types = types[: len(self.draft.expressions)]
        typed = list(zip(self.draft.expressions, types, strict=True))
        kept = [(e, t) for e, t in typed if e.is_kept]
        computed = [(e, t) for e, t in typed if not e.is_kept]
        return replace(
            self,
            draft=None,
            question=self.draft.write(types),
            question_of_few=self.draft.write(types, lists_rest=False),
            kept=value_query(kept) if kept else None,
            kept_values=len(kept),
            computed=value_query(computed, keys, given) if computed else None,
            computed_texts=tuple(e.text for e, _ in computed),
            keys=key_query(self.rules, keys, tuples) if keys or tuples else None,
            is_given=bool(tuples),
            others=tuple(others),
            demands=comparable(self.draft.demands, types, array_types),
        )


def make_plan(
    rules: Rules,
    fingerprint: str,
    builtins: Builtins,
    trusted: frozenset[str] = frozenset(),
    names: tuple[str, ...] = KNOWN_SETTINGS,
) -> Plan:
    """Choose the form.

    `builtins` are functions of pg_catalog; `trusted` are those (`schema.name`) that the operator
    declared to depend on nothing but their arguments and settings. `names` are the settings that
    clients have.
    """
    if rules.bypass:
        return Plan(rules, fingerprint, Form.OPEN, (), names=names)
    if not any(policy.permissive for policy in rules.policies or ()):
        return Plan(rules, fingerprint, Form.CLOSED, (), names=names)
    reason = why_certainly_opaque(rules, trusted)
    if reason is not None:
        return Plan(rules, fingerprint, Form.OPAQUE, names, reason=reason, names=names)
    try:
        draft = join(rules, builtins, names, trusted)
    except NotJoinableError as error:
        return _unjoined(rules, fingerprint, str(error), trusted, names)
    return Plan(
        rules, fingerprint, Form.JOINED, draft.reads, draft=draft, names=names,
        selects_rest=why_bound_late(rules, trusted) is not None,
    )  # fmt: skip


def _unjoined(
    rules: Rules, fingerprint: str, reason: str, trusted: frozenset[str], names: tuple[str, ...]
) -> Plan:
    opaque = why_opaque(rules, trusted)
    form = Form.LOOPED if opaque is None else Form.OPAQUE
    return Plan(rules, fingerprint, form, names, reason=opaque or reason, names=names)
