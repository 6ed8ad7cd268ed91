"""Key rotation, against a real HTTP server on loopback and real files."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from gateway.auth import jwks_source
from gateway.auth.jwks import LiveKeySet
from gateway.auth.jwks_source import KeyFile, KeySetError, KeyUrl
from gateway.auth.verifier import TokenVerifier
from gateway.errors import InvalidTokenError, KeysUnavailableError
from tests.support.tokens import claims, ec_signer, gateway_settings, hs256, key_set, rsa_signer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

OLD, NEW, STRANGER = rsa_signer("old"), ec_signer("new"), rsa_signer("stranger")


class KeyServer:
    """Serves given key sets, and counts requests."""

    def __init__(self) -> None:
        self.status = 200
        self.body = key_set(OLD)
        self.headers: dict[str, str] = {}
        self.requests = 0
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.asked = threading.Semaphore(0)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests += 1
                outer.asked.release()
                outer.may_answer.wait(10)
                with contextlib.suppress(OSError):
                    self.send_response(outer.status)
                    for name, value in outer.headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(outer.body)))
                    self.end_headers()
                    self.wfile.write(outer.body)

            def log_message(self, *_arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/jwks.json"

    async def read_twice(self) -> None:
        """Wait for two more requests to end: what was served before the call is then in use."""
        while self.asked.acquire(blocking=False):
            pass
        for _ in range(3):
            assert await asyncio.to_thread(self.asked.acquire, timeout=10)


@pytest.fixture
def server() -> Iterator[KeyServer]:
    made = KeyServer()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.may_answer.set()
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
async def source(server: KeyServer) -> AsyncIterator[KeyUrl]:
    """The server as a source that may be read as often as one likes."""
    made = KeyUrl(server.url)
    made.spare_seconds = 0.0
    yield made
    await made.close()


async def knows(live: LiveKeySet, signer_kid: str, algorithm: str) -> bool:
    return bool(await live.find(algorithm, signer_kid))


async def test_a_new_kid_brings_the_new_keys(server: KeyServer, source: KeyUrl) -> None:
    """A token of a key that was added is accepted at once, one of a removed key no more."""
    live = LiveKeySet(source)
    assert await knows(live, "old", "RS256")
    server.body = key_set(OLD, NEW)
    assert await knows(live, "new", "ES256")
    assert await knows(live, "old", "RS256")
    server.body = key_set(NEW)
    assert not await knows(live, "stranger", "RS256")
    assert not await knows(live, "old", "RS256")


async def test_tokens_verify_through_a_rotation(server: KeyServer) -> None:
    """The verifier, given a URL, accepts what the set says and nothing else."""
    verifier = TokenVerifier(gateway_settings(auth_jwks_url=server.url).token_options)
    async with running(verifier):
        assert (await verifier.verify(OLD.sign(claims()))).user_id
        assert (await verifier.verify(OLD.sign(claims(), kid=...))).user_id
        assert (await verifier.verify(hs256(claims()))).user_id
        with pytest.raises(InvalidTokenError):
            await verifier.verify(STRANGER.sign(claims()))
        with pytest.raises(InvalidTokenError):
            await verifier.verify(STRANGER.sign(claims(), kid="old"))


@contextlib.asynccontextmanager
async def running(verifier: TokenVerifier) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(verifier.run())
        try:
            yield
        finally:
            task.cancel()


async def test_made_up_kids_cause_one_request_in_a_while(server: KeyServer) -> None:
    """A flood of tokens with kids that nobody has leads to a single request."""
    source = KeyUrl(server.url)
    live = LiveKeySet(source)
    async with asyncio.TaskGroup() as group:
        for number in range(50):
            group.create_task(live.find("RS256", f"made up {number}"))
    for number in range(50):
        await live.find("RS256", f"made up again {number}")
    assert server.requests == 1
    assert source.spare_seconds >= 5
    await source.close()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b"oops"),
        (404, key_set(STRANGER)),
        (302, key_set(STRANGER)),
        (200, b"<html>login</html>"),
        (200, b'{"keys":[]}'),
        (200, b'{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}'),
        (200, b" " * 300_000 + key_set(STRANGER)),
    ],
)
async def test_a_set_that_cannot_be_read_never_replaces_one(
    server: KeyServer, source: KeyUrl, status: int, body: bytes
) -> None:
    """After a failure, a redirect, nonsense, an empty or a huge set, the last keys stay."""
    live = LiveKeySet(source)
    assert await knows(live, "old", "RS256")
    server.status, server.body = status, body
    server.headers = {"Location": "/elsewhere"} if status == 302 else {}
    asked = server.requests
    with capture_logs() as logs:
        assert not await knows(live, "stranger", "RS256")
    assert server.requests == asked + 1
    assert [entry["event"] for entry in logs] == ["key set not read, keeping the previous one"]
    assert await knows(live, "old", "RS256")


async def test_a_server_that_is_gone_or_silent(
    server: KeyServer, source: KeyUrl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer within the limit, and no server at all, are failures like any other."""
    live = LiveKeySet(source)
    assert await knows(live, "old", "RS256")
    monkeypatch.setattr(jwks_source, "FETCH_SECONDS", 0.05)
    server.may_answer.clear()
    assert not await knows(live, "stranger", "RS256")
    assert await knows(live, "old", "RS256")
    nobody = KeyUrl("http://127.0.0.1:1/jwks.json")
    with pytest.raises(KeySetError):
        await nobody.read()
    await nobody.close()


async def test_without_any_keys_yet_it_is_not_the_tokens_fault(server: KeyServer) -> None:
    """Before the first set is read a token cannot be judged: 503 and later, not 401 for good."""
    server.status = 500
    verifier = TokenVerifier(gateway_settings(auth_jwks_url=server.url).token_options)
    async with running(verifier):
        with pytest.raises(KeysUnavailableError):
            await verifier.verify(OLD.sign(claims()))
        assert (await verifier.verify(hs256(claims()))).user_id


async def test_the_set_is_read_in_the_background(server: KeyServer, source: KeyUrl) -> None:
    """Keys that were removed are forgotten without any token asking; a failure is tried again."""
    source.refresh_seconds = 0.01
    source.spare_seconds = 3600
    live = LiveKeySet(source)
    server.status = 500
    async with asyncio.TaskGroup() as group:
        task = group.create_task(live.run())
        await server.read_twice()
        assert not live.is_known
        server.status = 200
        await server.read_twice()
        assert await knows(live, "old", "RS256")
        server.body = key_set(NEW)
        await server.read_twice()
        assert not await knows(live, "old", "RS256")
        assert await knows(live, "new", "ES256")
        task.cancel()


async def test_a_file_that_is_replaced_is_read_again(tmp_path: Path) -> None:
    """A mounted file exchanged by a link, as Kubernetes does, brings the new keys."""
    for name, signer in (("1", OLD), ("2", NEW)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "jwks.json").write_bytes(key_set(signer))
    (tmp_path / "data").symlink_to("1")
    verifier = TokenVerifier(
        gateway_settings(auth_jwks_file=tmp_path / "data" / "jwks.json").token_options
    )
    await verifier.verify(OLD.sign(claims()))
    (tmp_path / "next").symlink_to("2")
    (tmp_path / "next").rename(tmp_path / "data")
    await verifier.verify(NEW.sign(claims()))
    with pytest.raises(InvalidTokenError):
        await verifier.verify(OLD.sign(claims()))


async def test_a_file_that_is_damaged_or_gone_leaves_the_last_keys(tmp_path: Path) -> None:
    """A half-written file, an empty one and none at all do not take the keys away."""
    file = tmp_path / "jwks.json"
    file.write_bytes(key_set(OLD))
    source = KeyFile(file)
    source.spare_seconds = 0.0
    live = LiveKeySet(source)
    assert await knows(live, "old", "RS256")
    for text in (key_set(NEW)[:40], b"", b" " * 300_000):
        file.write_bytes(text)
        assert not await knows(live, "new", "ES256")
    file.unlink()
    assert not await knows(live, "new", "ES256")
    assert await knows(live, "old", "RS256")
