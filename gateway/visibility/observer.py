"""What questions to Postgres cost, and how they went, for metrics and logs."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Counts what questions cost and how they went; `table` is `schema.table`."""

    def planned(self, table: str, role: str, form: str, reason: str | None) -> None:
        """The rules of a table were read: the form, and why it is not joined."""

    def asked(
        self, table: str, form: str, *, cohorts: int, events: int, seconds: float, rows: int
    ) -> None:
        """A question was answered, with so many rows."""

    def failed(self, table: str, form: str, sqlstate: str, cohorts: int) -> None:
        """The joined form raised (and another form is asked), or policies of cohorts did."""

    def differed(self, table: str, pairs: int) -> None:
        """The self-check found so many pairs of image and cohort that a SELECT shows otherwise."""

    def unchecked(self, table: str, sqlstate: str) -> None:
        """The self-check of an answer failed, so nothing is known of it."""


class SilentObserver:
    """Counts nothing."""

    def planned(self, table: str, role: str, form: str, reason: str | None) -> None:
        """Do nothing."""

    def asked(
        self, table: str, form: str, *, cohorts: int, events: int, seconds: float, rows: int
    ) -> None:
        """Do nothing."""

    def failed(self, table: str, form: str, sqlstate: str, cohorts: int) -> None:
        """Do nothing."""

    def differed(self, table: str, pairs: int) -> None:
        """Do nothing."""

    def unchecked(self, table: str, sqlstate: str) -> None:
        """Do nothing."""
