"""`ayb-tail posts,comments`: prints what happens to some tables, for people at a terminal."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import getpass
import json
import os
import sys
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

import httpx

from ayb_realtime.items import Change, Item, Resync, StreamError, Truncate
from ayb_realtime.stream import RefusedError, Token, TokenReason, stream

_COLOURS: Final = {"create": 32, "update": 33, "delete": 31, "note": 36}


class _UsageError(Exception):
    """A mistake of the user; the text says what to do."""


def main(arguments: Sequence[str] | None = None, *, program: str = "ayb-tail") -> int:
    """Run until interrupted; return the exit status. `program` is what the user typed."""
    parser = argparse.ArgumentParser(
        prog=program,
        description="Print the changes of tables as they are committed.",
        epilog="The token is AYB_TOKEN of the environment, or comes from --login.",
    )
    parser.add_argument("tables", help="comma-separated names: posts,comments")
    parser.add_argument("--url", default=os.environ.get("AYB_URL", "http://localhost:8090"))
    parser.add_argument("--login", metavar="EMAIL", help="log in; the password is asked for")
    parser.add_argument("--after", metavar="POSITION", help="continue after this position")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each item")
    parser.add_argument(
        "--leave", action="store_true", help="deletes for rows that leave the sight"
    )
    chosen = parser.parse_args(arguments)
    try:
        asyncio.run(_tail(chosen))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # of `ayb-tail ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except RefusedError as error:
        print(f"{program}: {error.message}", file=sys.stderr)
        return 1
    except (_UsageError, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    return 0


async def _tail(chosen: argparse.Namespace) -> None:
    async with httpx.AsyncClient() as client:
        token = _token(client, chosen.url, chosen.login)
        items = stream(
            chosen.url,
            chosen.tables.split(","),
            token=token,
            last_event_id=chosen.after,
            leave=chosen.leave,
            client=client,
            parse_float=Decimal,
            on_connect=lambda position: print(f"connected, after {position}", file=sys.stderr),
        )
        with_colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        async with contextlib.aclosing(items):
            async for item in items:
                print(_as_json(item) if chosen.json else line(item, with_colour), flush=True)


def _token(client: httpx.AsyncClient, url: str, email: str | None) -> Token:
    """Return a token, or a function that logs in and refreshes."""
    if email is None:
        return os.environ.get("AYB_TOKEN")
    refresh_token: str | None = None
    password = os.environ.get("AYB_PASSWORD") or getpass.getpass(f"password of {email}: ")

    async def ask(reason: TokenReason) -> str:
        nonlocal refresh_token
        path, body = "login", {"email": email, "password": password}
        if refresh_token is not None and reason != "connect":
            path, body = "refresh", {"refreshToken": refresh_token}
        answer = await client.post(f"{url.rstrip('/')}/api/auth/{path}", json=body)
        if answer.is_client_error:
            refresh_token = None
            raise _UsageError(answer.json().get("message", f"login: {answer.status_code}"))
        answer.raise_for_status()
        session = answer.json()
        refresh_token = session["refreshToken"]
        token: str = session["token"]
        return token

    return ask


def line(item: Item, with_colour: bool) -> str:
    """Write an item as a line for people."""
    match item:
        case Change(action, table, record, _, is_truncated):
            text = json.dumps(record, ensure_ascii=False, default=str)
            more = " (too large: key only)" if is_truncated else ""
            return f"{_paint(action, action, with_colour)} {table} {text}{more}"
        case Resync(reason, tables):
            text = f"resync {','.join(tables)}: changes were missed ({reason}), fetch again"
        case Truncate(table):
            text = f"truncate {table}"
        case StreamError(message):
            text = f"error {message}"
    return _paint(text, "note", with_colour)


def _paint(text: str, kind: str, with_colour: bool) -> str:
    return f"\x1b[{_COLOURS[kind]}m{text}\x1b[0m" if with_colour else text


def _as_json(item: Item) -> str:
    kind = type(item).__name__.lower().removeprefix("stream")
    return json.dumps(
        {"type": kind, **dataclasses.asdict(item)}, ensure_ascii=False, default=_number
    )


def _number(value: object) -> float:
    return float(str(value))
