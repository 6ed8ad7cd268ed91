"""Which tables need a real SELECT, since images cannot be judged by their policies.

An image is the row as it was, and a policy that looks at the table itself sees the row as it is
now. A text written in private, blanked and then published would be shown to a client that resumes
from before. A function that is given something of the row may look the row up; one without
arguments may return what it has read of the table. So a table is *opaque* to us

* certainly, where its policies read the table itself (or a parent, partition, or view, which may
  show it), directly or through the policies of other tables or a function whose body names it or
  leads to a copy of it; or where an image does not show what a value was;
* unless the joined form is known to be right, where a function or operator is given something of
  the row and may look the row up: one of no extension, not declared to depend on nothing but its
  arguments and settings, and not known to read other tables only; or where Postgres looks names of
  a function's body up while it plans, and so by another search path than that of a SELECT.

What a function in SQL or PL/pgSQL can read is bounded by the names in its body, in the bodies of
functions with these names, and so on (`ayb_realtime.reach_of`). One that executes a text, or is in
another language, may read anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.visibility.joined.lexer import Token, UnreadableError, tokenize
from gateway.visibility.joined.setting_expressions import read_wrapper

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gateway.visibility.rules import Function, Rules

_LOOKING: Final = frozenset(
    (
        "query_to_xml", "query_to_xmlschema", "query_to_xml_and_xmlschema", "table_to_xml",
        "table_to_xmlschema", "table_to_xml_and_xmlschema", "cursor_to_xml", "schema_to_xml",
        "database_to_xml", "pg_input_is_valid", "pg_input_error_info", "ts_stat", "ts_rewrite",
        "lo_get", "loread", "nextval", "currval",
    )
)  # fmt: skip
"""Functions of Postgres that may read a table named by their arguments, or have an effect.

Whether an input is valid is up to a domain's check, if the type is a domain.
"""
_SYSTEM_COLUMNS: Final = ("ctid", "xmin", "xmax", "cmin", "cmax", "tableoid")
_BOUND_BY_NAME: Final = ("distinct", "nullif", "using", "natural", "row", "in")
"""Constructs that look an operator up by its bare name, as does CASE with an operand."""


def why_certainly_opaque(rules: Rules, trusted: frozenset[str] = frozenset()) -> str | None:
    """Return why images cannot be judged by the policies, whatever their form; else None."""
    for relation in (*(rules.relations or ()), *(rules.nested_relations or ())):
        if relation.kin:
            return f"a policy reads {relation.name}, so the row as it is now"
        if relation.doubt is not None:
            return f"a policy reads {relation.name}, which {relation.doubt}"
        if relation.kind not in ("r", "p", "m", "c"):  # c: see the values of composites
            return f"{relation.name}, which a policy reads, is not a plain table"
    for function in _functions(rules, trusted):
        if function.mentions:
            name = f"{function.schema}.{function.name}()"
            return f"a policy calls {name}, which names the table, or leads to a copy of it"
    if rules.nested_types:
        return (
            f"the policy of another table uses {rules.nested_types[0]}, a type that calls functions"
        )
    return _why_values_tell_too_little(rules) or _why_texts_tell_too_little(rules)


def _why_values_tell_too_little(rules: Rules) -> str | None:
    for need in rules.needs or ():
        if need.undecidable == "opaque":
            return f"an image does not show what the value of {need.name} was"
    return "a policy reads a type with casts of its own" if rules.casts else None


def _why_texts_tell_too_little(rules: Rules) -> str | None:
    for policy in rules.policies or ():
        try:
            tokens = tokenize(policy.expression)
        except UnreadableError as error:
            return f"policy {policy.name}: {error}"
        if _names(tokens, rules.schema, rules.table):
            return f"policy {policy.name} reads the table itself"
        if rules.operators and _is_bound_by_name(tokens):
            return f"policy {policy.name} may use an operator that its text does not show"
    return None


def why_opaque(rules: Rules, trusted: frozenset[str] = frozenset()) -> str | None:
    """Return why images must not be judged in a loop; else None."""
    for function in _functions(rules, trusted):
        is_pure = function.extension and function.volatility == "i" and not function.definer
        if function.arguments and not is_pure and not function.is_transparent:
            name = f"{function.schema}.{function.name}()"
            doubt = f", and {function.doubt}" if function.doubt is not None else ""
            return f"a policy calls {name}, which may be given something of the row{doubt}"
    if rules.own_operators:
        return f"a policy uses an operator of the schema {rules.own_operators[0]}"
    for type_ in rules.types or ():
        if type_.calls:
            return f"a policy uses the type {type_.name}, which calls functions"
    for policy in rules.policies or ():
        for token in tokenize(policy.expression):
            if token.is_word(*_LOOKING, *_SYSTEM_COLUMNS):
                return f"policy {policy.name} uses {token.value}"
    return why_bound_late(rules, trusted)


def why_bound_late(rules: Rules, trusted: frozenset[str] = frozenset()) -> str | None:
    """Return why functions may mean something else in a loop than in a SELECT; else None.

    The loop's statement is planned with only pg_catalog in the search path. While it plans,
    Postgres expands the body of a function in SQL, unless it is a SECURITY DEFINER or has settings
    of its own, and calls an IMMUTABLE function whose arguments are constants. An operator or a
    function in the body may then be found in pg_catalog though the client's search path has one
    that fits better: citext's `<>`, say, which ignores case.
    """
    for function in _functions(rules, trusted):
        may_be_expanded = function.language == "sql" and not function.definer
        if (
            (may_be_expanded or function.volatility == "i")
            and not function.configured
            and not function.extension
            and not _computes_from_settings(function)
        ):
            name = f"{function.schema}.{function.name}()"
            return f"a policy calls {name}, whose body may be read by another search path in a loop"
    return None


def _computes_from_settings(function: Function) -> bool:
    """Whether a body consists of settings, casts and the like, which mean the same everywhere."""
    try:
        read_wrapper(function.body or "")
    except UnreadableError:
        return False
    return True


def _functions(rules: Rules, trusted: frozenset[str]) -> Iterator[Function]:
    for function in (*(rules.functions or ()), *(rules.nested_functions or ())):
        if f"{function.schema}.{function.name}" not in trusted:
            yield function


def _names(tokens: Sequence[Token], schema: str, table: str) -> bool:
    """Whether a text names the table with its schema: as a source of rows, or as a type."""
    return any(
        tokens[n].value == schema
        and tokens[n].kind in ("name", "quoted")
        and tokens[n + 1].is_mark(".")
        and tokens[n + 2].kind in ("name", "quoted")
        and tokens[n + 2].value == table
        and not (n + 3 < len(tokens) and tokens[n + 3].is_mark("."))
        for n in range(len(tokens) - 2)
    )


def _is_bound_by_name(tokens: Sequence[Token]) -> bool:
    """Whether an operator is bound by a bare name that the text does not show."""
    for place, token in enumerate(tokens):
        if token.is_word(*_BOUND_BY_NAME):
            return True
        following = tokens[place + 1] if place + 1 < len(tokens) else None
        if token.is_word("case") and following is not None and not following.is_word("when"):
            return True
    return False
