"""What visibility counts, by table, for Prometheus."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

if TYPE_CHECKING:
    from collections.abc import Collection

log = structlog.get_logger(__name__)

_LOGGED_APART_SECONDS: Final = 60.0
"""One client's bad claim fails every question; the log says it now and then."""


OTHER: Final = "(other)"
MOST_TABLES: Final = 500
"""How many tables have series of their own."""

KNOWN_STATES: Final = frozenset(
    (
        "22003",  # numeric value out of range
        "22012",  # division by zero
        "22023",  # invalid parameter value
        "22021",  # character not in repertoire
        "22P05",  # untranslatable character
        "P0004",  # assert failure
        "22P02",  # invalid text representation: a claim that does not cast
        "23514",  # check violation, of a domain
        "2F005",  # a function ended without RETURN
        "25006",  # a policy's function writes
        "42501",  # insufficient privilege
        "42704",  # undefined object: a setting that nothing sets
        "42883",  # undefined function
        "42P01",  # undefined table
        "54001",  # statement too complex
        "57014",  # statement timeout
        "P0001",  # RAISE
        "XX000",  # internal error
    )
)
"""The SQLSTATEs that have series of their own."""


class VisibilityMetrics:
    """What visibility costs, by table.

    Labels have a bound: tables beyond `MOST_TABLES` share the label `OTHER`, and so do SQLSTATEs
    that are not in `KNOWN_STATES`, since a policy may raise any. A table's series go with `forget`.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        form = ["table", "form"]
        self._form = Gauge(
            "ayb_visibility_form",
            "1 for the form in which a table is judged for a role",
            ["table", "role", "form"],
            registry=registry,
        )
        self._questions = Counter(
            "ayb_visibility_questions_total", "Visibility questions", form, registry=registry
        )
        self._cohorts = Counter(
            "ayb_visibility_cohorts_total", "Cohorts in the questions", form, registry=registry
        )
        self._events = Counter(
            "ayb_visibility_images_total", "Row images in the questions", form, registry=registry
        )
        self._seconds = Counter(
            "ayb_visibility_asked_seconds_total",
            "Time until the questions were answered",
            form,
            registry=registry,
        )
        self._rows = Counter(
            "ayb_visibility_answer_rows_total", "Rows of the answers", form, registry=registry
        )
        self._errors = Counter(
            "ayb_visibility_errors_total",
            "Cohorts on which a policy raises, by SQLSTATE",
            [*form, "sqlstate"],
            registry=registry,
        )
        self._differences = Counter(
            "ayb_visibility_differences_total",
            "Pairs of row and cohort for which the self-check's SELECT answered differently",
            ["table"],
            registry=registry,
        )
        self._unchecked = Counter(
            "ayb_visibility_unchecked_total",
            "Answers whose self-check failed, by SQLSTATE",
            ["table", "sqlstate"],
            registry=registry,
        )
        self._by_table: Final = (
            self._form,
            self._questions,
            self._cohorts,
            self._events,
            self._seconds,
            self._rows,
            self._errors,
            self._differences,
            self._unchecked,
        )
        self._of_questions: Final = (
            self._questions, self._cohorts, self._events, self._seconds, self._rows
        )  # fmt: skip
        self._series: dict[tuple[str, str], list[Counter]] = {}
        """Those of the questions: finding them by their labels takes longer than to count."""
        self._tables: set[str] = set()
        self._forms: dict[tuple[str, str], str] = {}
        self._logged: dict[tuple[str, ...], float] = {}

    @property
    def tables(self) -> frozenset[str]:
        """The tables that have series of their own."""
        return frozenset(self._tables)

    def forget(self, tables: Collection[str]) -> None:
        """Drop the series of tables that are gone."""
        self._tables.difference_update(tables)
        for key in [key for key in self._forms if key[0] in tables]:
            del self._forms[key]
        for asked in [key for key in self._series if key[0] in tables]:
            del self._series[asked]
        for logged in [key for key in self._logged if key[0] in tables]:
            del self._logged[logged]
        for table in tables:
            for metric in self._by_table:
                metric.remove_by_labels({"table": table})

    def planned(self, table: str, role: str, form: str, reason: str | None) -> None:
        """The rules of a table were read: the form, and why it is not joined."""
        label = self._label(table)
        before = self._forms.get((label, role))
        if before == form:
            return
        if before is not None:
            self._form.remove(label, role, before)
        self._forms[label, role] = form
        self._form.labels(label, role, form).set(1)
        if reason is not None:
            log.warning(
                "policies cannot be joined", table=table, role=role, form=form, reason=reason
            )

    def asked(
        self, table: str, form: str, *, cohorts: int, events: int, seconds: float, rows: int
    ) -> None:
        """A question was answered."""
        key = self._label(table), form
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = [metric.labels(*key) for metric in self._of_questions]
        for metric, amount in zip(series, (1, cohorts, events, seconds, rows), strict=True):
            metric.inc(amount)

    def failed(self, table: str, form: str, sqlstate: str, cohorts: int) -> None:
        """Policies raised."""
        label, state = self._label(table), _known(sqlstate)
        self._errors.labels(label, form, state).inc(cohorts)
        if self._is_to_be_logged(label, form, state):
            log.warning(
                "a policy raises", table=table, form=form, sqlstate=sqlstate, cohorts=cohorts
            )

    def differed(self, table: str, pairs: int) -> None:
        """The self-check found a difference."""
        self._differences.labels(self._label(table)).inc(pairs)

    def unchecked(self, table: str, sqlstate: str) -> None:
        """The self-check failed."""
        label, state = self._label(table), _known(sqlstate)
        self._unchecked.labels(label, state).inc()
        if self._is_to_be_logged(label, "self-check", state):
            log.warning("the self-check fails", table=table, sqlstate=sqlstate)

    def _label(self, table: str) -> str:
        if table not in self._tables:
            if len(self._tables) >= MOST_TABLES:
                return OTHER
            self._tables.add(table)
        return table

    def _is_to_be_logged(self, *key: str) -> bool:
        """Whether no line of this kind was logged lately."""
        now = time.monotonic()
        if now - self._logged.get(key, -_LOGGED_APART_SECONDS) < _LOGGED_APART_SECONDS:
            return False
        self._logged[key] = now
        return True


def _known(sqlstate: str) -> str:
    return sqlstate if sqlstate in KNOWN_STATES else OTHER
