"""From the head of a request to a stream request or a refusal, over parts that answer as told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from starlette.datastructures import Headers
from structlog.testing import capture_logs

from gateway.auth.claims import Claims
from gateway.auth.verifier import TokenVerifier
from gateway.errors import (
    AuthenticationRequiredError,
    GatewayError,
    InvalidTokenError,
    NoTablesError,
    NotConfiguredError,
    PermissionDeniedError,
    PositionAheadError,
    RequestTooLongError,
    ServiceUnavailableError,
    ShuttingDownError,
    TablesRequiredError,
    UnknownTableRequestError,
)
from gateway.tables.catalog import Table, UnknownTableError
from gateway.web.admission import Admission
from gateway.web.authentication import Authentication
from shared.errors import DatabaseUnavailableError, SchemaError
from shared.position import Position
from tests.support.tokens import USER_ID, claims, gateway_settings, hs256

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.tables.names import TableName
    from gateway.web.stream_request import StreamRequest

POSTS = Table("public.posts", 1)


@dataclass
class World:
    """All that an admission asks."""

    is_refusing: bool = False
    refuses_after: int | None = None
    is_started: bool = True
    ahead: bool = False
    faults: dict[str, str] = field(default_factory=dict)
    readable: bool = True
    error: Exception | None = None
    anonymous_role: str | None = None
    auth: bool = True
    caught_up: bool = False
    awaited: list[Position] = field(default_factory=list)

    async def resolve(self, names: Sequence[TableName]) -> list[Table]:
        if self.error is not None:
            raise self.error
        for name in names:
            if name.table != "posts":
                raise UnknownTableError(name.text)
        return [POSTS] if names else []

    async def may_read(self, table: Table, role: str) -> bool:
        return self.readable

    async def fault_of(self, role: str) -> str | None:
        return self.faults.get(role)

    def is_ahead(self, position: Position) -> bool:
        return self.ahead

    async def catch_up(self) -> None:
        self.caught_up = True

    async def await_position(self, position: Position) -> None:
        self.awaited.append(position)
        if self.refuses_after is not None:
            self.is_refusing = True

    async def check(self, query: str, headers: dict[str, str] | None = None) -> StreamRequest:
        parts: Any = self
        admission = Admission(
            authentication=Authentication(
                verifier=TokenVerifier(gateway_settings().token_options) if self.auth else None,
                anonymous_role=self.anonymous_role,
                roles=parts,
            ),
            catalog=parts,
            hub=parts,
            backlog=parts,
            drain=parts,
        )
        return await admission.check(Headers(headers or {}), query.encode())


def token(**more: Any) -> str:
    return hs256(claims(**more))


async def test_a_good_request() -> None:
    """Everything that the stream depends on is in one frozen value."""
    world = World()
    bearer = {"Authorization": f"Bearer {token()}", "Last-Event-ID": "7-3"}
    request = await world.check("tables=posts&leave=true&lastEventId=1", bearer)
    assert request.user_id == USER_ID
    assert request.identity.role == "ayb_authenticated"
    assert request.tables == (POSTS,)
    assert request.subscription.relids == {"public.posts": 1}
    assert request.leave
    assert request.identity.settings[0] == USER_ID
    assert request.position == Position(1, 7, 3)
    assert world.awaited == [Position(1, 7, 3)]


async def test_an_api_key_is_limited_to_its_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that is not among the key's is denied, whatever the role may read."""
    for allowed, is_admitted in (((), True), (("posts",), True), (("public.posts",), True),
                                 (("other", "app.posts"), False)):  # fmt: skip
        found = Claims("u", "", "", "{}", "ayb_authenticated", None,
                       allowed_tables=frozenset(allowed))  # fmt: skip

        async def verify(_: object, token: str, address: str, found: Claims = found) -> Claims:
            return found

        monkeypatch.setattr(TokenVerifier, "verify", verify)
        if is_admitted:
            assert (await World().check("tables=posts&token=x")).expires_at is None
        else:
            with pytest.raises(PermissionDeniedError):
                await World().check("tables=posts&token=x")


async def test_without_authentication() -> None:
    """With authentication off there is no role, and so nothing is asked about it."""
    world = World(auth=False, faults={"ayb_authenticated": "x"})
    request = await world.check("tables=posts")
    assert world.caught_up
    assert (request.identity.claims, request.identity.role, request.expires_at) == (
        None,
        None,
        None,
    )
    assert request.identity.settings == ("", "", "", "")
    assert request.user_id == ""


async def test_an_anonymous_client_is_its_role() -> None:
    """Without a token the only claim is the role."""
    request = await World(anonymous_role='web "anon"').check("tables=posts")
    assert request.identity.role == 'web "anon"'
    assert request.identity.settings == ("", "", "", '{"role":"web \\"anon\\""}')
    assert request.position is None


@pytest.mark.parametrize("shown", ["garbage", "-1", "9" * 99])
async def test_a_position_that_cannot_be_read(shown: str) -> None:
    """It is kept for the stream to answer with `resync`, and nothing waits for it."""
    world = World(auth=False)
    request = await world.check(f"tables=posts&lastEventId={shown}")
    assert request.last_event_id == shown
    assert request.position is None
    assert world.awaited == []


GOOD = f"tables=posts&token={token()}"


@pytest.mark.parametrize(
    ("query", "world", "refusal", "message"),
    [
        ("tables=posts", World(), AuthenticationRequiredError, "authentication required"),
        ("tables=posts&token=x", World(), InvalidTokenError, "invalid or expired token"),
        ("tables=posts&token=x", World(is_started=False), InvalidTokenError, "invalid or"),
        (f"token={token()}", World(), TablesRequiredError, "tables parameter is required"),
        (f"tables=%20&token={token()}", World(), TablesRequiredError, "tables parameter"),
        (f"tables=,,&token={token()}", World(), NoTablesError, "at least one valid table"),
        (f"tables=no&token={token()}", World(), UnknownTableRequestError, "unknown table: no"),
        (f"tables=a.b.c&token={token()}", World(), UnknownTableRequestError, "table: a.b.c"),
        (f"tables={'x' * 9_000}&token={token()}", World(), RequestTooLongError, "too long"),
        (
            "tables=" + ",".join(f"t{n}" for n in range(101)) + f"&token={token()}",
            World(),
            RequestTooLongError,
            "too long",
        ),
        ("x=" + "y" * 50_000, World(), RequestTooLongError, "too long"),
        (GOOD, World(readable=False), PermissionDeniedError, "permission denied for table: posts"),
        (GOOD, World(is_refusing=True), ShuttingDownError, "shutting down"),
        (GOOD, World(is_started=False), ServiceUnavailableError, "database unavailable"),
        (GOOD, World(error=DatabaseUnavailableError()), ServiceUnavailableError, "database"),
        (GOOD, World(error=SchemaError()), NotConfiguredError, "not configured"),
        (
            GOOD,
            World(error=asyncpg.UndefinedFunctionError("secret")),
            NotConfiguredError,
            "not configured",
        ),
        (GOOD, World(faults={"ayb_authenticated": "missing"}), NotConfiguredError, "not conf"),
        ("tables=posts", World(anonymous_role="a", faults={"a": "x"}), NotConfiguredError, "not"),
    ],
)
async def test_refusals(
    query: str, world: World, refusal: type[GatewayError], message: str
) -> None:
    """Each check has its refusal; a fault of the deployment is never the client's."""
    with capture_logs(), pytest.raises(refusal) as caught:
        await world.check(query)
    assert type(caught.value) is refusal
    assert message in caught.value.message
    assert "secret" not in caught.value.message


async def test_a_position_ahead_is_to_wait() -> None:
    """A position that this gateway has not reached is refused for a passing reason."""
    with pytest.raises(PositionAheadError) as caught:
        await World(auth=False, ahead=True).check("tables=posts&lastEventId=9")
    assert caught.value.is_passing


async def test_a_drain_that_begins_meanwhile() -> None:
    """A request that was being checked when streams began to be refused opens none."""
    with pytest.raises(ShuttingDownError):
        await World(auth=False, refuses_after=1).check("tables=posts&lastEventId=9")
