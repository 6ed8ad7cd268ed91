"""The opaque form: a real SELECT by each cohort decides, and only on rows that are still the same.

Each cohort selects the rows that have the images' keys, under the client's role and settings. A row
that any of them sees is written as capture writes it, once for all cohorts in the same snapshot. An
image is seen if this is the image byte for byte, so no client receives what a SELECT would not show
at that moment. Otherwise the image is withheld. If the outbox has a later change of the row, the
image is *superseded*, and that later change is judged by itself. If not, the row is only written
otherwise (a column has got another type, a label another name), or a write was not captured: the
image is undecidable. Rows that are gone are visible to no one.

The self-check asks the same of the other forms' answers: see `gateway.visibility.self_check`.
"""

# ruff: noqa: S608 (a statement is what is made here, of text that comes from Postgres' own catalogs)

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from gateway.visibility.quoting import quote_name

if TYPE_CHECKING:
    from gateway.visibility.rules import Column, Rules

_UTC: Final = b'+00:00"'
_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class OpaqueRow:
    """An image as it is compared: the columns that the role may read, as JSON, and the key."""

    row: str
    key: tuple[str | None, ...]


def opaque_row(rules: Rules, image: bytes) -> OpaqueRow | None:
    """Return what is compared of an image; None if it lacks a column that the table has now."""
    try:
        members = _decoder.decode(image)
        key = tuple(_text(bytes(members[column.name])) for column in rules.key or ())
        values = [
            _value(bytes(members[column.name]), column)
            for column in rules.columns
            if column.is_readable
        ]
    except (msgspec.DecodeError, RecursionError, KeyError):
        return None
    fields = b",".join(b'"f%d":%b' % (n, value) for n, value in enumerate(values, 1))
    return OpaqueRow((b"{" + fields + b"}").decode(), key)


def opaque_statement(rules: Rules) -> str:
    """Return the statement that finds the images whose rows a cohort sees.

    See `ayb_realtime.ask_cohort`. That the keys are among those asked about is a condition of its
    own, on the table alone, so that policies need not be evaluated (and raise) on other rows.
    """
    return f"SELECT pg_catalog.array_agg(ayb_asked.ayb_image)\n{_rows_asked_about(rules)}"


def comparing_statement(rules: Rules) -> str:
    """Return the statement that compares images with the rows that a cohort sees.

    It gives the images that are the same and those that are not. The visible rows are found first,
    with the policies under the session's own settings; then the settings that pin how values are
    written are set, and the rows are compared.
    """
    columns = [column for column in rules.columns if column.is_readable]
    selected = "".join(
        f", ayb_now.{quote_name(column.name)} AS ayb_c{n}" for n, column in enumerate(columns)
    )
    written = ", ".join(_written(f"ayb_c{n}", column) for n, column in enumerate(columns))
    return f"""WITH ayb_seen AS MATERIALIZED (
SELECT ayb_asked.ayb_image{selected}
{_rows_asked_about(rules)}
), ayb_pinned AS MATERIALIZED (
SELECT pg_catalog.count(pg_catalog.set_config(ayb_pin.ayb_name, ayb_pin.ayb_value, true))
FROM (SELECT pg_catalog.count(*) FROM ayb_seen) AS ayb_all
CROSS JOIN (VALUES {_PINS}) AS ayb_pin (ayb_name, ayb_value)
), ayb_compared AS MATERIALIZED (
SELECT ayb_image, pg_catalog.translate(
pg_catalog.row_to_json(ROW({written}))::pg_catalog.text, E'\\r\\n', '  ')
OPERATOR(pg_catalog.=) $2[ayb_image] AS ayb_same FROM ayb_pinned CROSS JOIN ayb_seen
)
SELECT pg_catalog.array_agg(ayb_image) FILTER (WHERE ayb_same),
pg_catalog.array_agg(ayb_image) FILTER (WHERE NOT ayb_same) FROM ayb_compared"""


def _rows_asked_about(rules: Rules) -> str:
    """Join the images asked about with the rows that have their keys.

    The parameter $3 has all keys' values of the first key column, then all of the second, and so
    on.
    """
    key = rules.key or ()
    shapes = {column.name: column.shape for column in rules.columns}
    total = f"pg_catalog.cardinality($3) OPERATOR(pg_catalog./) {len(key)}"
    conditions = []
    for n, column in enumerate(key):
        start = f"{n} OPERATOR(pg_catalog.*) ({total})"
        stop = f"{n + 1} OPERATOR(pg_catalog.*) ({total})"
        value = f"$3[{start} OPERATOR(pg_catalog.+) ayb_asked.ayb_image]" if n else (
            "$3[ayb_asked.ayb_image]")  # fmt: skip
        values = f"$3[{start} OPERATOR(pg_catalog.+) 1 : {stop}]" if len(key) > 1 else "$3"
        name = f"ayb_now.{quote_name(column.name)} {column.operator}"
        if shapes[column.name] in ("array", "composite"):
            conditions.append(f"{name} {_from_json(value, column.type)}")
        else:
            conditions.append(f"{name} ({value})::{column.type}")
            conditions.append(f"{name} ANY (({values})::{column.type}[])")
    return f"""FROM pg_catalog.unnest($1) AS ayb_asked (ayb_image)
JOIN {quote_name(rules.schema)}.{quote_name(rules.table)} AS ayb_now
ON {" AND ".join(conditions)}"""


def _from_json(text: str, type_: str) -> str:
    """Write the value of an array or a composite, of which an image has JSON.

    What JSON has no place for (bounds of arrays) is written as Postgres writes it: see `_written`.
    """
    is_literal = f"({text}) OPERATOR(pg_catalog.~) {_LITERAL}"
    value = f"CASE WHEN {is_literal} THEN pg_catalog.to_json({text}) "
    value += f"ELSE ({text})::pg_catalog.json END"
    return (
        "(SELECT ayb_key.ayb_value FROM pg_catalog.json_to_record("
        f"pg_catalog.json_build_object('ayb_value', {value})) AS ayb_key (ayb_value {type_}))"
    )


_LITERAL: Final = r"'^(\(|(\[-?[0-9]+:-?[0-9]+\])+=)'"
"""The beginning of a composite, and of an array with bounds."""

_PINS: Final = ", ".join(
    f"('{name}'::pg_catalog.text, '{value}'::pg_catalog.text)"
    for name, value in (
        ("search_path", "pg_catalog, pg_temp"), ("TimeZone", "UTC"), ("DateStyle", "ISO, MDY"),
        ("IntervalStyle", "postgres"), ("extra_float_digits", "1"), ("bytea_output", "hex"),
        ("lc_monetary", "C"),
    )
)  # fmt: skip
"""As `ayb_realtime.capture_row` has them."""


def _text(value: bytes) -> str | None:
    """Return what `->>` makes of a JSON value."""
    if value == b"null":
        return None
    if value.startswith(b'"'):
        return msgspec.json.decode(value, type=str)
    return value.decode()


def _value(value: bytes, column: Column) -> bytes:
    if column.shape == "stamp" and value.endswith(_UTC):
        return value.removesuffix(_UTC) + b'Z"'
    if b"\n" in value or b"\r" in value:
        return value.replace(b"\r", b" ").replace(b"\n", b" ")
    return value


def _written(name: str, column: Column) -> str:
    """Return the expression that writes a column as capture and relay do."""
    if column.shape == "stamp":
        return (
            f"pg_catalog.replace(pg_catalog.to_json({name})::pg_catalog.text, "
            "'+00:00\"', 'Z\"')::pg_catalog.json"
        )
    text = f"pg_catalog.format('%s', {name})"
    if column.shape == "composite":
        has_bounds = f"pg_catalog.strpos({text}, ']={{') OPERATOR(pg_catalog.>) 0"
    elif column.shape == "array":
        has_bounds = f"pg_catalog.left({text}, 1) OPERATOR(pg_catalog.=) '['"
    else:
        return name
    return (
        f"CASE WHEN {has_bounds} THEN pg_catalog.to_json({text}) "
        f"ELSE pg_catalog.to_json({name}) END"
    )
