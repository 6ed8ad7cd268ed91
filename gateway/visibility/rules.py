"""The rules of a table for a role, as the catalogs have them.

`ayb_realtime.rules` reads them; Postgres' own decisions (which policies apply, who bypasses) are
made there. The fingerprint is a digest of all of it: an answer counts only if it is still the same
after the question was asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection

Shape = Literal["plain", "stamp", "array", "composite"]
"""What a value needs to be written as an image has it: see `column_facts`."""


class Column(msgspec.Struct, frozen=True, array_like=True):
    """A column, and whether the role may read it."""

    number: int
    name: str
    is_readable: bool
    xmin: str = ""
    shape: Shape = "plain"


class KeyColumn(msgspec.Struct, frozen=True, array_like=True):
    """A column of the primary key: its type, and the operator by which its index finds a value."""

    name: str
    type: str
    operator: str


class Need(msgspec.Struct, frozen=True, array_like=True):
    """A column that a policy reads.

    `undecidable` says which of its values in an image leave open what the value was: `no` (none),
    `null` (a null), `any` (one that holds a null), `all`; or `opaque`: an image never shows it.
    """

    name: str
    undecidable: str


class Doubt(msgspec.Struct, frozen=True, array_like=True):
    """A value whose text may have meant another value in changes up to `seq`.

    `label` is the label of an enum; None stands for every value of the column.
    """

    column: str
    label: str | None
    seq: int


class Policy(msgspec.Struct, frozen=True, rename={"expression": "using"}):
    """A policy that applies to the role's reading."""

    name: str
    permissive: bool
    expression: str


class Function(msgspec.Struct, frozen=True):
    """A function that a policy calls and that is not part of Postgres."""

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
    mentions: bool = False
    """Whether its body has the name of the table in it, or leads to what may have copies of it."""
    extension: bool = False
    """Whether it came with an extension."""
    is_known: bool = False
    """Whether it takes arguments, and is known not to read the table: see `reach_of` in SQL."""
    doubt: str | None = None
    """Why that is not known."""

    @property
    def is_transparent(self) -> bool:
        """Whether it may be given something of the row: `is_known`, and alone of its name."""
        return self.is_known and self.kind == "f" and self.overloads == 1


class Relation(msgspec.Struct, frozen=True):
    """Another table, view or similar that a policy reads; `secured` if it has RLS itself."""

    name: str
    kind: str
    secured: bool
    kin: bool = False
    """Whether it is the table itself, or a parent, partition or child of it."""
    doubt: str | None = None
    """Why a materialized view may have copies of the table's rows."""


class Type(msgspec.Struct, frozen=True):
    """A type that a policy names and that is not part of Postgres."""

    name: str
    kind: str
    calls: bool = False
    """Whether a domain's check, or a range, calls functions of the database's users."""


class Rules(msgspec.Struct, frozen=True):
    """All that decides what a role sees of a table."""

    schema: str
    table: str
    bypass: bool
    columns: tuple[Column, ...]
    key: tuple[KeyColumn, ...] | None = None
    """The primary key, if there is one."""
    needs: tuple[Need, ...] | None = None
    policies: tuple[Policy, ...] | None = None
    functions: tuple[Function, ...] | None = None
    relations: tuple[Relation, ...] | None = None
    types: tuple[Type, ...] | None = None
    nested_functions: tuple[Function, ...] | None = None
    """Functions that the policies of other tables call, where those tables are read under RLS."""
    nested_relations: tuple[Relation, ...] | None = None
    nested_types: tuple[str, ...] | None = None
    """Types in those policies that call functions of the database's users."""
    operators: tuple[str, ...] | None = None
    """The schemas of operators that are no part of Postgres."""
    own_operators: tuple[str, ...] | None = None
    """Those of operators that came with no extension either."""
    casts: bool = False
    """Whether there are casts, of no extension, for types that policies name or read."""
    others: tuple[str, ...] | None = None
    reused: dict[str, int] | None = None
    """Columns that took over another's name, each with the last seq that may be from before."""
    doubtful: tuple[Doubt, ...] | None = None
    """Values whose text may have meant others in older changes."""
    json_casts: bool = False
    """Whether any user-defined type has a cast to json of its own."""
    own_types: bool = True
    """Whether any column has a type that is not part of Postgres."""

    @property
    def readable(self) -> frozenset[str]:
        """The columns that the role may read."""
        return frozenset(column.name for column in self.columns if column.is_readable)

    @property
    def needed(self) -> frozenset[str]:
        """The columns that policies read."""
        return frozenset(need.name for need in self.needs or ())

    @property
    def key_names(self) -> frozenset[str]:
        """The columns of the primary key; none if there is no key."""
        return frozenset(column.name for column in self.key or ())

    def means_others(self, image: bytes, seq: int, *, is_whole: bool = True) -> bool:
        """Whether a change's image may mean other columns by its names than the table has."""
        if not self.reused or seq > max(self.reused.values()):
            return False
        if not is_whole:
            return True
        try:
            members = _image_decoder.decode(image)
        except (msgspec.DecodeError, RecursionError):
            return True
        return any(seq <= last for name, last in self.reused.items() if name in members)

    def means_other_values(self, image: bytes, seq: int, columns: Collection[str]) -> bool:
        """Return whether these columns' values in an image may have stood for others then."""
        doubts = [d for d in self.doubtful or () if d.column in columns and seq <= d.seq]
        if not doubts:
            return False
        try:
            members = _image_decoder.decode(image)
        except (msgspec.DecodeError, RecursionError):
            return True
        return any(
            doubt.column in members and _may_be(bytes(members[doubt.column]), doubt.label)
            for doubt in doubts
        )

    def judged_image(self, image: bytes) -> str | None:
        """Return the part of an image that policies read, as JSON.

        None if it is undecidable: a column that policies read is missing, or its value leaves open
        what it was, or the image is none. What no policy reads need not be read back from JSON.
        """
        try:
            members = _image_decoder.decode(image)
        except (msgspec.DecodeError, RecursionError):
            return None
        read: dict[str, msgspec.Raw] = {}
        for need in self.needs or ():
            value = members.get(need.name)
            if value is None or need.undecidable in ("all", "opaque"):
                return None
            text = bytes(value)
            if need.undecidable != "no" and text == b"null":
                return None
            if need.undecidable == "any" and b"null" in text:
                return None
            read[need.name] = value
        return _image_encoder.encode(read).decode()


def _may_be(value: bytes, label: str | None) -> bool:
    """Whether a value is an enum's label, or an array with it; without a label, whether it is any.

    An array with bounds is one string, and its labels are not looked for.
    """
    if label is None:
        return value != b"null"
    return msgspec.json.encode(label) in value or b"]={" in value


_rules_decoder = msgspec.json.Decoder(Rules)
_image_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_image_encoder = msgspec.json.Encoder()


def decode_rules(text: str) -> Rules:
    """Decode what `ayb_realtime.rules` returns."""
    return _rules_decoder.decode(text)
