"""The rules of a table for a role, as the catalogs have them.

`ayb_realtime.rules` reads them; Postgres' own decisions (which policies apply, who bypasses) are
made there. The fingerprint is a digest of all of it: an answer counts only if it is still the same
after the question was asked.
"""

from __future__ import annotations

import msgspec


class Column(msgspec.Struct, frozen=True, array_like=True):
    """A column, and whether the role may read it."""

    number: int
    name: str
    is_readable: bool


class Need(msgspec.Struct, frozen=True, array_like=True):
    """A column that a policy reads. `undecidable` says which values in an image are in doubt."""

    name: str
    undecidable: str


class Policy(msgspec.Struct, frozen=True, rename={"expression": "using"}):
    """A policy that applies to the role's reading."""

    name: str
    permissive: bool
    expression: str


class Function(msgspec.Struct, frozen=True):
    """A function that is no part of Postgres and that a policy calls."""

    schema: str
    name: str
    arguments: int
    kind: str
    language: str
    volatility: str
    definer: bool
    configured: bool
    set: bool
    returns: str
    body: str | None
    executable: bool
    overloads: int


class Relation(msgspec.Struct, frozen=True):
    """Another table, view or the like that a policy reads; `secured` if it has RLS itself."""

    name: str
    kind: str
    secured: bool


class Type(msgspec.Struct, frozen=True):
    """A type that is no part of Postgres and that a policy names."""

    name: str
    kind: str


class Rules(msgspec.Struct, frozen=True):
    """All that decides what a role sees of a table."""

    schema: str
    table: str
    bypass: bool
    columns: tuple[Column, ...]
    needs: tuple[Need, ...] | None = None
    policies: tuple[Policy, ...] | None = None
    functions: tuple[Function, ...] | None = None
    relations: tuple[Relation, ...] | None = None
    types: tuple[Type, ...] | None = None
    operators: tuple[str, ...] | None = None
    others: tuple[str, ...] | None = None
    reused: dict[str, int] | None = None
    """Columns that took over another's name, each with the last seq that may be from before."""
    json_casts: bool = False
    """Whether any user-defined type has a cast to json of its own."""

    @property
    def readable(self) -> frozenset[str]:
        """The columns that the role may read."""
        return frozenset(column.name for column in self.columns if column.is_readable)

    def means_others(self, image: bytes, seq: int, *, is_whole: bool = True) -> bool:
        """Tell whether a change's image may mean other columns by its names than the table has."""
        if not self.reused or seq > max(self.reused.values()):
            return False
        if not is_whole:
            return True
        try:
            members = _image_decoder.decode(image)
        except (msgspec.DecodeError, RecursionError):
            return True
        return any(seq <= last for name, last in self.reused.items() if name in members)

    def is_undecidable(self, image: bytes) -> bool:
        """Tell whether an image lacks a column that policies read, has it in doubt, or is none."""
        try:
            members = _image_decoder.decode(image)
        except (msgspec.DecodeError, RecursionError):
            return True
        if not self.needs:
            return False
        for need in self.needs:
            value = members.get(need.name)
            if value is None or need.undecidable == "all":
                return True
            if need.undecidable != "no" and bytes(value) == b"null":
                return True
            if need.undecidable == "any" and b"null" in bytes(value):
                return True
        return False


_rules_decoder = msgspec.json.Decoder(Rules)
_image_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def decode_rules(text: str) -> Rules:
    """Read what `ayb_realtime.rules` says."""
    return _rules_decoder.decode(text)
