"""Which cohorts may see an image at all, where a policy compares a column with a claim.

With ten thousand users and an event for one of them, nearly all of a question's time goes to the
other users' values: sending, splitting and converting them, and hashing them for the join. Where
every condition that reads a claim demands `column = claim`, the gateway can look up which cohorts
have the image's value, and asks Postgres about these *candidates* only. Postgres still decides: a
candidate that it does not confirm sees nothing. What has to be certain is the opposite, that a
cohort which sees an image is among its candidates.

That is so if equal values are always written alike, on both sides:

* the column and the claim have types whose values are written in one way each: uuid, the integers,
  and text and varchar of the default collation, which is deterministic. Not numeric (1 and 1.0),
  floats (0 and -0), times, bpchar, citext, or a column with a collation of its own;
* the image has the value as that type writes it. A value from before the column got its type may be
  written otherwise (a UUID in capitals, say): then all cohorts are asked about;
* the claim's value is text that Postgres itself made from a value of that type.

It also depends on how the policies are combined, as (R1 AND R2 ...) AND (P1 OR P2 ...):

* if one of the restrictive policies demands an equality, that one is enough;
* else each part of the permissive policies that reads a claim must demand one. A part that reads
  the row only shows an image to everybody; if a restrictive policy reads a claim at the same time,
  there is no telling to whom, and all cohorts are asked about.

None of these conditions may be one that can raise, since it would no longer do so for cohorts that
are not asked about.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from gateway.visibility.joined.expressions import split, unwrap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from gateway.visibility.joined.kept_values import ValueGroups
    from gateway.visibility.joined.lexer import Token
    from gateway.visibility.joined.setting_expressions import SettingExpression

FEWEST_GROUPS: Final = 100
"""With fewer groups of cohorts, asking about all of them costs no more."""
MOST_CANDIDATES: Final = 0.5
"""The share of the groups above which asking about all of them costs no more."""

_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_INTEGER: Final = re.compile(r"0|-?[1-9][0-9]*")
_FAMILIES: Final = {
    "uuid": "uuid", "int2": "integer", "int4": "integer", "int8": "integer", "text": "text",
    "varchar": "text",
}  # fmt: skip
_image_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Equality:
    """A condition `column = claim`: the claim is a setting expression, by its number.

    With `is_cast` the column is compared as text. `family` is that of the column's type, once it is
    known: uuid, integer or text.
    """

    column: str
    expression: int
    is_cast: bool = False
    family: str = ""


Demand = tuple[Equality, ...]
"""Equalities that hold for whoever sees an image by one of the conditions; each is enough."""


def demands(
    parts: Sequence[Sequence[Token]],
    limits: Sequence[Sequence[Token]],
    *,
    expressions: Sequence[SettingExpression],
    columns: AbstractSet[str],
    table: str,
    cannot_raise: Callable[[Sequence[Token]], bool],
) -> tuple[Demand, ...]:
    """Return what the policies demand: a cohort that sees an image satisfies one of the demands.

    None, if there is a way to see an image without an equality, or a condition could raise.
    `parts` are those of the permissive policies, `limits` the restrictive ones, `columns` those
    that policies read.
    """
    reading = [part for part in parts if _reads_claim(part)]
    reading_limits = [limit for limit in limits if _reads_claim(limit)]
    if any(not e.is_kept for e in expressions) or not all(
        map(cannot_raise, [*reading, *reading_limits])
    ):
        return ()

    def equalities(condition: Sequence[Token]) -> Demand:
        found = (_equality(tokens, columns, table) for tokens in split(condition, "and"))
        return tuple(e for e in found if e is not None and not expressions[e.expression].is_set)

    if limiting := tuple(e for limit in reading_limits for e in equalities(limit)):
        return (limiting,)
    if reading_limits and len(reading) < len(parts):
        return ()
    demanded = tuple(equalities(part) for part in reading)
    return demanded if all(demanded) else ()


def _reads_claim(condition: Iterable[Token]) -> bool:
    return any(token.kind == "setting" for token in condition)


def _equality(condition: Sequence[Token], columns: AbstractSet[str], table: str) -> Equality | None:
    tokens = unwrap(condition)
    depth = 0
    places = []
    for place, token in enumerate(tokens):
        depth += token.text in ("(", "[")
        depth -= token.text in (")", "]")
        if depth == 0 and token.is_mark("="):
            places.append(place)
    if len(places) != 1:
        return None
    sides = unwrap(tokens[: places[0]]), unwrap(tokens[places[0] + 1 :])
    for side, other in (sides, sides[::-1]):
        if [token.kind for token in other] == ["setting"]:
            is_cast = len(side) > 2 and side[-2].is_mark("::") and side[-1].is_word("text")
            name = _column(unwrap(side[:-2]) if is_cast else side, table)
            if name in columns:
                return Equality(name, int(other[0].value), is_cast)
    return None


def _column(tokens: Sequence[Token], table: str) -> str:
    if len(tokens) == 3 and tokens[0].value == table and tokens[1].is_mark("."):
        tokens = tokens[2:]
    return tokens[0].value if len(tokens) == 1 and tokens[0].may_name_column else ""


def columns_of(demanded: Iterable[Demand]) -> tuple[str, ...]:
    """List the columns whose types have to be known, in order."""
    return tuple(dict.fromkeys(e.column for demand in demanded for e in demand))


def comparable(
    demanded: Sequence[Demand],
    types: Sequence[str],
    array_types: Mapping[str, str | None],
) -> tuple[Demand, ...]:
    """Keep the equalities of values that are written in one way; none if a demand keeps no other.

    `types` are those of the setting expressions; `array_types` those of arrays of the columns, as
    `ayb_realtime.expression_types` has them.
    """
    kept = []
    for demand in demanded:
        typed = (_typed(e, types[e.expression], array_types.get(e.column)) for e in demand)
        kept.append(tuple(e for e in typed if e is not None))
    return tuple(kept) if all(kept) else ()


def _typed(equality: Equality, type_: str, array_type: str | None) -> Equality | None:
    column = _FAMILIES.get((array_type or "").removeprefix("pg_catalog._"))
    claim = _FAMILIES.get(type_.removeprefix("pg_catalog."))
    if column is None or claim != ("text" if equality.is_cast else column):
        return None
    return Equality(equality.column, equality.expression, equality.is_cast, column)


def candidates(
    demanded: Sequence[Demand], groups: ValueGroups, images: Iterable[str]
) -> list[int] | None:
    """List the groups that may see any of the images, numbered from 1; None for all of them.

    It is None as well if an image's value is not written as its type writes it, or if so many are
    candidates that asking about all costs no more.
    """
    if not demanded or len(groups) < FEWEST_GROUPS:
        return None
    chosen = [max(demand, key=lambda e: len(groups.by_value(e.expression))) for demand in demanded]
    found: set[int] = set()
    for image in images:
        members = _image_decoder.decode(image)
        for equality in chosen:
            value = bytes(members[equality.column])
            if value == b"null":
                continue
            text = _canonical(value, equality.family)
            if text is None:
                return None
            found.update(groups.by_value(equality.expression).get(text, ()))
    return None if len(found) > MOST_CANDIDATES * len(groups) else sorted(found)


def _canonical(value: bytes, family: str) -> str | None:
    """Return how a type writes what an image has, None if it does not write it like that."""
    if family == "integer":
        text = value.decode()
        return text if _INTEGER.fullmatch(text) else None
    if not value.startswith(b'"'):
        return None
    text = msgspec.json.decode(value, type=str)
    if family == "uuid":
        return text if _UUID.fullmatch(text) else None
    # A varchar with a length may have cut the blanks at the end since.
    return None if text.endswith(" ") else text
