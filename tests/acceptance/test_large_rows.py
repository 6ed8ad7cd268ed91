"""Rows of any size, and values that only Postgres can hold: memory is bounded, others go on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.requirements import Requirements
    from tests.support.sse_client import SseClient
    from tests.support.stack import Stack
    from tests.support.stack_fixtures import StartStack

ANN = "0b54d0d6-9c0f-4c5f-9c3e-000000000001"
TABLES = """
    CREATE TABLE large (id int PRIMARY KEY, author uuid, body text, doc json, docb jsonb);
    CREATE TABLE calm (id int PRIMARY KEY);
    GRANT SELECT ON large, calm TO ayb_authenticated;
    ALTER TABLE large ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON large USING (author = current_setting('ayb.user_id')::uuid);
"""
MIB = 2**20


class Peaks:
    """How far relay and gateway grow at the most, by the kernel's own account."""

    def __init__(self, stack: Stack, require: Requirements) -> None:
        self._folders = {
            name: Path(f"/proc/{stack.child(name).pid}") for name in ("relay", "gateway")
        }
        require.that(Path("/proc/self/clear_refs").exists(), "no peak memory without /proc")
        for folder in self._folders.values():
            (folder / "clear_refs").write_text("5")
        self._before = self._mebibytes("VmRSS")

    def grown(self) -> dict[str, int]:
        """By how many MiB each has grown at its peak since it was last looked at."""
        return {name: size - self._before[name] for name, size in self._mebibytes("VmHWM").items()}

    def _mebibytes(self, what: str) -> dict[str, int]:
        found = {}
        for name, folder in self._folders.items():
            match = re.search(rf"{what}:\s+(\d+) kB", (folder / "status").read_text())
            assert match is not None
            found[name] = int(match.group(1)) // 1024
        return found


async def test_one_huge_text(start_stack: StartStack, require: Requirements) -> None:
    """A text of 40 MB is delivered by its key to its author, judged by the columns that are small;
    neither relay nor gateway ever holds it.
    """
    stack = await start_stack(gateway={"AYB_REALTIME_VERIFY": "0"})
    await stack.create(TABLES, "large", "calm")
    peaks = Peaks(stack, require)
    async with (
        stack.stream("large,calm", token=stack.token(ANN)) as ann,
        stack.stream("large,calm", token=stack.token()) as other,
    ):
        await ann.connected()
        await other.connected()
        await stack.sql(
            "INSERT INTO large VALUES (1, $1, repeat('x', 40000000)), (2, $1, 'small')", ANN
        )
        await stack.sql("UPDATE large SET doc = '1' WHERE id = 1")
        await stack.sql("INSERT INTO calm VALUES (3)")
        first, second, third, fourth = [event.json() for event in await ann.take(4, 15.0)]
        assert (await other.next_message(15.0)).json()["record"] == {"id": 3}
    assert (first["action"], first["record"], first["truncated"]) == ("create", {"id": 1}, True)
    assert (second["action"], second["record"]["id"]) == ("create", 2)
    assert (third["action"], third["record"], third["truncated"]) == ("update", {"id": 1}, True)
    assert fourth["record"] == {"id": 3}
    grown = peaks.grown()
    print("grown by", grown)
    assert grown["relay"] < 30
    assert grown["gateway"] < 30


async def test_many_large_images(start_stack: StartStack, require: Requirements) -> None:
    """A transaction with 60 rows of 2 MB is judged a portion at a time, live and in a replay."""
    stack = await start_stack(gateway={"AYB_REALTIME_VERIFY": "0"})
    await stack.create(TABLES, "large", "calm")
    peaks = Peaks(stack, require)
    async with stack.stream("large", token=stack.token(ANN)) as ann:
        await ann.connected()
        start = ann.last_event_id
        await stack.sql(
            """
            INSERT INTO large SELECT n, CASE WHEN n % 2 = 0 THEN $1::uuid END, repeat('x', 2000000)
            FROM generate_series(1, 60) AS n
            """,
            ANN,
        )
        assert [e.json()["record"] for e in await ann.take(30, 15.0)] == [
            {"id": n} for n in range(2, 61, 2)
        ]
    async with stack.stream("large", token=stack.token(ANN), last_event_id=start) as again:
        assert [e.json()["record"] for e in await again.take(30, 15.0)] == [
            {"id": n} for n in range(2, 61, 2)
        ]
    grown = peaks.grown()
    print("grown by", grown)
    assert grown["relay"] < 30
    assert grown["gateway"] < 80


READ_ALL = """
    ALTER POLICY own ON large USING (author = current_setting('ayb.user_id')::uuid
        AND coalesce(doc ->> 'a', docb ->> 'a', '') <> 'hidden');
"""


@pytest.mark.parametrize("policy", ["", READ_ALL], ids=["beside the policy", "read by the policy"])
async def test_poison(stack: Stack, policy: str) -> None:
    """Whatever SQL can store and no parser takes is delivered as lost, or by its key: the rows
    around it arrive, and a gateway that reads them from the outbox delivers them again. Where a
    policy raises on such a value, as in a SELECT, that is an `error`. Nobody else gets anything.
    """
    await stack.create(TABLES + policy, "large", "calm")
    values = [
        ("doc", f"""('{{"a":"{escape}","b":"' || repeat('x', {padding}) || '"}}')::json""")
        for escape in (r"\u0000", r"\ud800")
        for padding in (1, 2 * MIB)
    ] + [
        (
            f"doc{kind}",
            f"""(repeat('[', {depth}) || '"' || repeat('x', {padding}) || '"'
                || repeat(']', {depth}))::json{kind}""",
        )
        for kind in ("", "b")
        for depth in (300, 3000)
        for padding in (1, 2 * MIB)
    ]
    lost = 0
    async with (
        stack.stream("large,calm", token=stack.token(ANN)) as ann,
        stack.stream("large,calm", token=stack.token()) as other,
    ):
        await ann.connected()
        await other.connected()
        start = ann.last_event_id
        # The one on which a policy raises comes last: a `resync` follows its `error` later.
        for number, (column, value) in reversed(list(enumerate(values))):
            await stack.sql(
                f"INSERT INTO large (id, author, {column}) VALUES ({number}, '{ANN}', {value})"
            )
            await stack.sql(f"INSERT INTO calm VALUES ({number})")
            lost += await _row_arrives(ann, number)
        others = [event.json() for event in await other.take(len(values))]
    assert 0 < lost < len(values)
    assert [event["table"] for event in others] == ["calm"] * len(values)
    for client in (ann, other):  # a SELECT by either raises while there is such a row
        errors = [event.type for event in client.events if event.type == "error"]
        assert errors == (["error"] if policy else [])
    for is_restarted in (False, True):
        if is_restarted:
            await stack.restart("gateway")
        async with stack.stream("large,calm", token=stack.token(ANN), last_event_id=start) as again:
            calm = []
            while len(calm) < len(values):
                event = await again.next_message(30.0)
                if event.json()["table"] == "calm":
                    calm.append(event.json()["record"]["id"])
            assert calm == list(reversed(range(len(values))))


async def _row_arrives(client: SseClient, number: int) -> bool:
    """A row of `large` arrives whole, by its key or as lost (returns which), then one of `calm`."""
    large = await client.next(30.0)
    while large.type not in ("message", "resync", "error"):
        large = await client.next(30.0)
    if large.type == "message":
        assert (number, large.json()["table"]) == (number, "large")
        assert large.json()["record"]["id"] == number
    elif large.type == "resync":
        assert large.json()["tables"] == ["large"]
    else:
        assert large.json()["message"].startswith("large: ")
    calm = await client.next_message(30.0)
    assert calm.json()["record"] == {"id": number}
    return large.type != "message"
