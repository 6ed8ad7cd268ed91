"""The joined form: one statement over cohorts and row images.

From the policies of a table, as `pg_get_expr` writes them, follows

    (R1 AND R2 ...) AND (P1 OR P2 ...)

of restrictive and permissive policies. Settings have become columns of the table of cohorts
(`gateway.rewriter`). Permissive policies are split at their top-level OR, which leaves parts, and
each part or restrictive policy reads the row, the cohort, or both:

* row only: asked once for each image;
* cohort only: asked once for each cohort;
* both: asked of the pairs that Postgres finds by joining images and cohorts, by hash where it can.

The answer has no row for each pair: products are told as a list of images and a list of cohorts, and
what more than half of the cohorts see, by the rest.

Splitting changes which part is computed first. That must not matter, so it is done only where no
part can raise (`_is_quiet`); else the condition stays in one piece. An error in the joined form
decides nothing: the question is asked again as a loop.

The statement runs with an empty search path and finds nothing of the user's by a bare name, so
nobody who may create objects can get between. It calls no function that is not known to be harmless:
user-defined ones, volatile ones and those that look at the session leave the table to the loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.audience import KNOWN_SETTINGS
from gateway.lexer import Token, UnreadableError, render, tokenize
from gateway.rewriter import Claim, Claims, read_wrapper, split

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gateway.policies import Function, Rules

EXCLUDED: Final = 0
"""Kind of answer row: the cohorts for which a claim cannot be computed."""
PRODUCT: Final = 1
"""Kind of answer row: all these cohorts (all there are, if NULL) see all these images."""
REST: Final = 2
"""Kind of answer row: all cohorts but these see the image."""

_STABLE: Final = frozenset(
    (
        "now statement_timestamp transaction_timestamp current_database date_trunc date_part "
        "extract timezone to_char to_date to_timestamp age concat concat_ws format to_json to_jsonb "
        "jsonb_build_object jsonb_build_array array_to_string string_agg array_agg jsonb_agg "
        "pg_has_role has_table_privilege"
    ).split(" ")
)
_SYNTAX: Final = frozenset(
    (
        "and or not in any all some exists select from where on as case when then else is like "
        "ilike values array row coalesce nullif greatest least distinct union except intersect "
        "having by limit offset using join lateral trim substring position overlay both leading "
        "trailing for"
    ).split(" ")
)
_TYPE_WORDS: Final = frozenset(
    ("varying", "character", "bit", "time", "timestamp", "interval", "numeric", "varchar")
)
_REFUSED: Final = frozenset(
    "tablesample current_schema ctid xmin xmax cmin cmax tableoid operator over".split(" ")
)
_QUIET_OPERATORS: Final = frozenset("= <> < > <= >= -> ->> #> #>> @> <@ && ? ?| ?&".split(" "))
_QUIET_CALLS: Final = _SYNTAX - {"values", "limit", "offset", "substring", "overlay", "for"} | {
    "lower",
    "upper",
    "length",
    "now",
}


@dataclass(frozen=True, slots=True)
class Joined:
    """The question, and the settings that cohorts are formed by."""

    question: str
    reads: tuple[str, ...]


class NotJoinableError(ValueError):
    """The table must be asked about by the loop; the text says why."""


def join(rules: Rules, harmless: frozenset[str]) -> Joined:
    """Write the question for rules with at least one permissive policy.

    `harmless` are the names of the immutable functions in pg_catalog. Raises `NotJoinableError`.
    """
    _check_dependencies(rules)
    claims = Claims({(f.schema, f.name): _inline(f) for f in rules.functions or ()})
    permissive: list[list[Token]] = []
    restrictive: list[list[Token]] = []
    for policy in rules.policies or ():
        try:
            tokens = claims.take_from(tokenize(policy.expression))
            _check_tokens(tokens, harmless)
        except UnreadableError as error:
            raise NotJoinableError(f"policy {policy.name}: {error}") from None
        (permissive if policy.permissive else restrictive).append(tokens)
    question = _Writer(rules, claims.found, permissive, restrictive).write()
    numbers = sorted(frozenset[int]().union(*(claim.reads for claim in claims.found)))
    return Joined(question, tuple(KNOWN_SETTINGS[number] for number in numbers))


def _check_dependencies(rules: Rules) -> None:
    for relation in rules.relations or ():
        if relation.secured:
            raise NotJoinableError(f"{relation.name}, which a policy reads, has RLS itself")
        if relation.kind not in ("r", "p", "m"):
            raise NotJoinableError(f"{relation.name}, which a policy reads, is not a plain table")
    for type_ in rules.types or ():
        if type_.kind != "e":
            raise NotJoinableError(f"a policy uses the type {type_.name}")
    if rules.operators:
        raise NotJoinableError(f"a policy uses an operator of the schema {rules.operators[0]}")
    if rules.others:
        raise NotJoinableError(f"a policy depends on an object in {rules.others[0]}")


def _inline(function: Function) -> Claim:
    name = f"{function.schema}.{function.name}()"
    for fault, text in (
        (function.definer, "is SECURITY DEFINER"),
        (function.language != "sql" or function.kind != "f", "is not a function in SQL"),
        (function.arguments > 0 or function.overloads > 1, "takes arguments"),
        (function.volatility == "v", "is VOLATILE: declare it STABLE"),
        (function.configured, "has SET clauses"),
        (function.set, "returns a set"),
        (not function.executable, "may not be executed by the role"),
    ):
        if fault:
            raise NotJoinableError(f"a policy calls {name}, which {text}")
    try:
        return read_wrapper(function.body or "", function.returns)
    except UnreadableError as error:
        raise NotJoinableError(f"a policy calls {name}, and {error}") from None


def _check_tokens(tokens: Sequence[Token], harmless: frozenset[str]) -> None:
    """See to it that nothing is called or read that another session would see otherwise."""
    for place, token in enumerate(tokens):
        before = tokens[place - 1] if place else None
        after = tokens[place + 1] if place + 1 < len(tokens) else None
        is_qualified = before is not None and before.is_mark(".")
        if is_qualified and token.is_mark("*"):
            raise UnreadableError("it uses a whole row")
        if token.kind not in ("name", "quoted"):
            continue
        if token.kind == "name" and token.value in _REFUSED:
            raise UnreadableError(f"it uses {token.value}")
        if before is not None and before.is_mark("::"):
            if token.value.startswith("reg"):
                raise UnreadableError(f"it uses {token.value}")
            continue
        if after is not None and after.is_mark("(") and not (
            token.kind == "name"
            and not is_qualified
            and (token.value in _SYNTAX or token.value in _STABLE or token.value in harmless
                 or token.value in _TYPE_WORDS)
        ):  # fmt: skip
            raise UnreadableError(f"it calls {token.text}")


def _is_quiet(tokens: Sequence[Token]) -> bool:
    """Tell whether an expression surely cannot raise, whatever the row."""
    for place, token in enumerate(tokens):
        before = tokens[place - 1] if place else None
        after = tokens[place + 1] if place + 1 < len(tokens) else None
        if (
            token.kind == "operator"
            and token.text not in _QUIET_OPERATORS
            and not (token.text == "*" and before is not None and before.is_mark("("))
        ):
            return False
        if token.is_mark("::"):
            of_literal = before is not None and before.kind in ("string", "number")
            if not of_literal and not (after is not None and after.is_word("text")):
                return False
        if token.is_word("select") and place >= 1:
            opener = tokens[place - 2] if place >= 2 else None
            if opener is None or not opener.is_word("exists", "in", "any", "all", "array"):
                return False
        if (
            token.kind == "name"
            and after is not None
            and after.is_mark("(")
            and not (before is not None and before.is_mark("::"))
            and token.value not in _QUIET_CALLS
        ):
            return False
    return True


class _Writer:
    """Writes the question for one table. All of its own names begin with a prefix nobody uses."""

    def __init__(
        self,
        rules: Rules,
        claims: Sequence[Claim],
        permissive: Sequence[list[Token]],
        restrictive: Sequence[list[Token]],
    ) -> None:
        self._row_names = {column.name for column in rules.columns} | {rules.table}
        everything = [token for policy in (*permissive, *restrictive) for token in policy]
        self._p = _free_prefix({*self._row_names, *(token.value for token in everything)})
        self._claims = claims
        self._columns = [need.name for need in rules.needs or ()]
        self._schema, self._table = _quote(rules.schema), _quote(rules.table)
        if all(_is_quiet(policy) for policy in (*permissive, *restrictive)):
            parts = [part for policy in permissive for part in split(policy, "or")]
        else:
            parts = [_glue("and", [_glue("or", permissive), *restrictive])]
            restrictive = []
        self._row_parts, self._cohort_parts, self._both_parts = self._sort(parts)
        self._row_limits, self._cohort_limits, self._both_limits = self._sort(restrictive)
        self._products: list[tuple[str, str]] = []
        if claims:
            self._find_products()

    def write(self) -> str:
        """Write it; $1 to $4 are the settings' values, one array each, $5 the images."""
        p = self._p
        tables = [self._images(), self._judged_images()]
        if not self._claims:
            tables_text = ",\n".join(tables)
            return (
                f"WITH {tables_text}\nSELECT 1, pg_catalog.array_agg({p}n), NULL::pg_catalog.int4[] "
                f"FROM {p}o WHERE {p}open"
            )
        tables += [self._cohorts(), self._judged_cohorts()]
        answers = [
            f"SELECT 0, NULL::pg_catalog.int4[], pg_catalog.array_agg({p}n) FROM {p}a WHERE NOT {p}ok"
        ]
        if self._both_limits:
            answers.append(self._pairs([self._limited_condition()], everything=True))
        else:
            answers += self._wholes()
            if self._both_parts:
                answers.append(self._pairs([self._text(part) for part in self._both_parts]))
        return "WITH " + ",\n".join(tables) + "\n" + "\nUNION ALL ".join(answers)

    def _sort(
        self, conditions: Sequence[list[Token]]
    ) -> tuple[list[list[Token]], list[list[Token]], list[list[Token]]]:
        """Sort conditions by what they read: the row only, the cohort only, both."""
        sorted_: tuple[list[list[Token]], ...] = ([], [], [])
        for condition in conditions:
            sorted_[self._reach(condition)].append(condition)
        return sorted_[0], sorted_[1], sorted_[2]

    def _reach(self, condition: Sequence[Token]) -> int:
        if not any(token.kind == "claim" for token in condition):
            return 0
        reads_row = any(
            token.kind in ("name", "quoted") and token.value in self._row_names
            for token in condition
        )
        return 2 if reads_row else 1

    def _find_products(self) -> None:
        """Take out the parts whose top-level AND separates the row from the cohort."""
        both = []
        for part in self._both_parts:
            if not _is_quiet(part):
                both.append(part)
                continue
            rows, cohorts, mixed = self._sort(split(part, "and"))
            if mixed:
                both.append(part)
            else:
                self._products.append((self._conjunction(rows), self._conjunction(cohorts)))
        self._both_parts = both

    def _images(self) -> str:
        p = self._p
        columns = "".join(
            f", {p}r.{_quote(name)} AS {p}f{n}" for n, name in enumerate(self._columns)
        )
        return (
            f"{p}i AS MATERIALIZED (SELECT {p}u.{p}n::pg_catalog.int4 AS {p}n{columns} "
            f"FROM pg_catalog.unnest($5) WITH ORDINALITY AS {p}u ({p}image, {p}n) "
            "CROSS JOIN LATERAL pg_catalog.json_populate_record("
            f"NULL::{self._schema}.{self._table}, {p}u.{p}image::pg_catalog.json) AS {p}r)"
        )

    def _judged_images(self) -> str:
        p = self._p
        products = "".join(f", ({row}) AS {p}p{n}" for n, (row, _) in enumerate(self._products))
        return (
            f"{p}o AS MATERIALIZED (SELECT {p}e.*, {p}q.* FROM {p}i AS {p}e CROSS JOIN LATERAL "
            f"(SELECT ({self._disjunction(self._row_parts)}) IS TRUE AS {p}open, "
            f"({self._conjunction(self._row_limits)}) AS {p}kept{products} "
            f"FROM {self._row()}) AS {p}q WHERE {p}q.{p}kept)"
        )

    def _cohorts(self) -> str:
        p = self._p
        numbers = sorted(frozenset[int]().union(*(claim.reads for claim in self._claims)))
        if numbers:
            arrays = ", ".join(f"${number + 1}" for number in numbers)
            names = ", ".join(f"{p}s{number}" for number in numbers)
            source = f"pg_catalog.unnest({arrays}) WITH ORDINALITY AS {p}u ({names}, {p}n)"
        else:
            source = f"(SELECT 1) AS {p}u ({p}n)"
        settings = [f"{p}u.{p}s{number}" for number in range(4)]
        valid = " AND ".join(f"({v})" for v in sorted({claim.valid for claim in self._claims}))
        columns = ", ".join(
            f"CASE WHEN {claim.valid} THEN {claim.sql} END AS {p}k{n}".format(*settings)
            for n, claim in enumerate(self._claims)
        )
        return (
            f"{p}a AS MATERIALIZED (SELECT {p}u.{p}n::pg_catalog.int4 AS {p}n, "
            f"({valid.format(*settings)}) AS {p}ok, {columns} FROM {source})"
        )

    def _judged_cohorts(self) -> str:
        p = self._p
        products = "".join(f", ({c}) AS {p}p{n}" for n, (_, c) in enumerate(self._products))
        return (
            f"{p}d AS MATERIALIZED (SELECT {p}c.*, {p}q.* FROM {p}a AS {p}c CROSS JOIN LATERAL "
            f"(SELECT ({self._disjunction(self._cohort_parts)}) IS TRUE AS {p}sees, "
            f"({self._conjunction(self._cohort_limits)}) AS {p}kept{products} OFFSET 0) AS {p}q "
            f"WHERE {p}c.{p}ok AND {p}q.{p}kept)"
        )

    def _wholes(self) -> Iterable[str]:
        """Answers that are products of images and cohorts."""
        p = self._p
        all_cohorts = self._listed("true")
        if self._row_parts:
            yield (f"SELECT 1, pg_catalog.array_agg({p}n), {all_cohorts} FROM {p}o WHERE {p}open")
        if self._cohort_parts:
            yield f"SELECT 1, pg_catalog.array_agg({p}n), {self._listed(f'{p}sees')} FROM {p}o"
        for n in range(len(self._products)):
            cohorts = self._listed(f"{p}p{n}")
            yield f"SELECT 1, pg_catalog.array_agg({p}n), {cohorts} FROM {p}o WHERE {p}p{n}"

    def _listed(self, condition: str) -> str:
        p = self._p
        return (
            f"(SELECT CASE WHEN pg_catalog.count(*) OPERATOR(pg_catalog.<>) "
            f"(SELECT pg_catalog.count(*) FROM {p}a) "
            f"THEN coalesce(pg_catalog.array_agg({p}n), '{{}}') END FROM {p}d WHERE {condition})"
        )

    def _limited_condition(self) -> str:
        p = self._p
        anyhow = [f"{p}e.{p}open", f"{p}c.{p}sees"]
        anyhow += [f"({p}e.{p}p{n} AND {p}c.{p}p{n})" for n in range(len(self._products))]
        anyhow += [f"({self._text(part)})" for part in self._both_parts]
        limits = " AND ".join(f"({self._text(limit)})" for limit in self._both_limits)
        return f"{limits} AND ({' OR '.join(anyhow)})"

    def _pairs(self, conditions: Sequence[str], *, everything: bool = False) -> str:
        """Answers of the pairs for which one of the conditions holds."""
        p = self._p
        others = "" if everything else f" WHERE NOT {p}e.{p}open AND NOT {p}c.{p}sees"
        # In WHERE, not in the list of columns: only there does the planner make joins of EXISTS.
        found = " UNION ".join(
            f"SELECT {p}e.{p}n AS {p}n, {p}c.{p}n AS {p}m FROM {p}o AS {p}e CROSS JOIN {p}d AS {p}c "
            f"CROSS JOIN LATERAL (SELECT FROM {self._row()} WHERE {condition}) AS {p}q{others}"
            for condition in conditions
        )
        all_ = f"(SELECT pg_catalog.count(*) FROM {p}a)"
        most = f"2 OPERATOR(pg_catalog.*) {p}g.{p}count OPERATOR(pg_catalog.>) {all_}"
        rest = (
            f"ARRAY(SELECT {p}a.{p}n FROM {p}a EXCEPT ALL SELECT pg_catalog.unnest({p}g.{p}list))"
        )
        return (
            f"SELECT CASE WHEN {most} THEN 2 ELSE 1 END, ARRAY[{p}g.{p}n], "
            f"CASE WHEN {most} THEN {rest} ELSE {p}g.{p}list END "
            f"FROM (SELECT {p}n, pg_catalog.array_agg({p}m) AS {p}list, "
            f"pg_catalog.count(*) AS {p}count FROM ({found}) AS {p}f GROUP BY {p}n) AS {p}g"
        )

    def _row(self) -> str:
        """The row, named like the table: the only thing that the policies' bare names can mean."""
        columns = ", ".join(
            f"{self._p}e.{self._p}f{n} AS {_quote(name)}" for n, name in enumerate(self._columns)
        )
        return f"(SELECT {columns}) AS {self._table}"

    def _text(self, tokens: Sequence[Token]) -> str:
        p = self._p
        return render(
            [
                Token("name", f"{p}c.{p}k{token.value}", "") if token.kind == "claim" else token
                for token in tokens
            ]
        )

    def _conjunction(self, conditions: Sequence[Sequence[Token]]) -> str:
        return " AND ".join(f"({self._text(condition)})" for condition in conditions) or "true"

    def _disjunction(self, conditions: Sequence[Sequence[Token]]) -> str:
        return " OR ".join(f"({self._text(condition)})" for condition in conditions) or "false"


def _free_prefix(taken: Iterable[str]) -> str:
    names = tuple(taken)
    number = 0
    while any(name.startswith(f"ayb{number}") for name in names):
        number += 1
    return f"ayb{number}"


def _glue(word: str, conditions: Sequence[Sequence[Token]]) -> list[Token]:
    glued: list[Token] = []
    for condition in conditions:
        if glued:
            glued.append(Token("name", word.upper(), word))
        glued += [Token("mark", "(", "("), *condition, Token("mark", ")", ")")]
    return glued


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
