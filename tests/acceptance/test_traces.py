"""Traces by OpenTelemetry: a real collector's socket, real relays and gateways."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

from devstack.servers import free_port
from tests.support.otlp import Collector
from tests.support.previous import previous_commit, unpack

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.otlp import ReceivedSpan
    from tests.support.requirements import Requirements
    from tests.support.stack import Stack
    from tests.support.stack_fixtures import StartStack

SERVER, CLIENT, PRODUCER, CONSUMER = 2, 3, 4, 5

NOTES = """
CREATE TABLE notes (id int PRIMARY KEY, author text, body text);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON notes TO ayb_authenticated;
CREATE POLICY own ON notes USING (author = current_setting('ayb.user_id', true));
CREATE TABLE tasks (id int PRIMARY KEY, body text);
ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON tasks TO ayb_authenticated;
CREATE FUNCTION no_tasks(body text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN RAISE EXCEPTION 'refused: %', body; END $$;
CREATE POLICY raising ON tasks USING (no_tasks(body));
"""
ALICE = "11111111-1111-4111-8111-111111111111"


def otel(collector: Collector, **more: str) -> dict[str, str]:
    """The settings of a process whose every batch is traced."""
    return {
        "AYB_TRACES_RATIO": "1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        **more,
    }


async def delivered(stack: Stack, gateway: str, statement: str) -> None:
    """Run a statement and wait until Alice has its event from a gateway."""
    async with stack.stream("notes", token=stack.token(ALICE), gateway=gateway) as client:
        await client.connected()
        await stack.sql(statement)
        await client.next_message()


async def test_one_trace_from_batch_to_write(start_stack: StartStack) -> None:
    """A batch is one trace: the relay's read and publish, and for each gateway that has clients for
    it the receipt, each question and the write; with counts and names, and no value of anything.
    """
    with Collector() as collector:
        stack = await start_stack(
            relay=otel(collector),
            gateway=otel(collector, OTEL_SERVICE_NAME="edge", AYB_REGION="eu"),
        )
        await stack.add_gateway("second")
        await stack.add_gateway("idle")
        await stack.create(NOTES, "notes", "tasks")
        token = stack.token(ALICE, secret_claim="claim-of-alice")
        async with (
            stack.stream("notes", token=token) as first,
            stack.stream("notes", token=token, gateway="second") as second,
            stack.stream("tasks", token=token) as broken,
        ):
            for client in (first, second, broken):
                await client.connected()
            await stack.sql("INSERT INTO notes VALUES (1, $1, 'text-of-a-row')", ALICE)
            await first.next_message()
            await second.next_message()
            await stack.sql("INSERT INTO tasks VALUES (1, 'text-of-a-task')")
            assert (await broken.next()).type == "error"
            await collector.until(
                lambda: len(collector.named("write")) >= 2 and collector.named("publish")
            )
            await collector.until(lambda: [s for s in collector.spans if s.is_failed])
        [root] = [
            s for s in collector.named("batch") if "public.notes" in s.attributes["ayb.tables"]
        ]
        trace = [span for span in collector.spans if span.trace == root.trace]

        def children(parent: ReceivedSpan) -> list[tuple[str, str, int]]:
            return sorted((s.service, s.name, s.kind) for s in trace if s.parent == parent.id)

        assert (root.parent, root.service) == ("", "ayb-relay")
        assert root.attributes["ayb.changes"] == 1
        assert root.attributes["ayb.recorded_at"] <= root.ended_ns / 1e9
        assert children(root) == [
            ("ayb-relay", "publish", PRODUCER),
            ("ayb-relay", "read and record", CLIENT),
            ("edge", "deliver", CONSUMER),
            ("edge", "deliver", CONSUMER),
            ("edge", "receive", CONSUMER),
            ("edge", "receive", CONSUMER),
        ]
        delivers = [span for span in trace if span.name == "deliver"]
        assert len({span.instance for span in delivers}) == 2
        for deliver in delivers:
            assert children(deliver) == [
                ("edge", "visibility", CLIENT), ("edge", "write", CLIENT),
            ]  # fmt: skip
            [question, write] = sorted(
                (s for s in trace if s.parent == deliver.id), key=lambda span: span.name
            )
            assert question.attributes["ayb.table"] == "public.notes"
            assert question.attributes["ayb.form"] == "joined"
            assert question.attributes["ayb.role"] == "ayb_authenticated"
            assert children(question) == [("edge", "ask joined", CLIENT)]
            assert write.attributes["ayb.deliveries"] == 1
            assert deliver.began_ns <= question.began_ns <= question.ended_ns <= write.ended_ns
            assert write.ended_ns <= deliver.ended_ns
        assert len(trace) == 1 + 2 + 2 * 5
        failed = [span for span in collector.spans if span.is_failed]
        assert {span.status for span in failed} <= {"SQLSTATE P0001"}
        everything = b"".join(collector.bodies)
        for secret in (
            b"text-of-a",
            b"claim-of-alice",
            ALICE.encode(),
            token.encode()[:30],
            b"eyJ",
        ):
            assert secret not in everything


async def test_the_relays_decision_holds(start_stack: StartStack) -> None:
    """Gateways trace nothing of a batch that the relay did not sample, and all that it did."""
    with Collector() as collector:
        stack = await start_stack(
            relay=otel(collector, OTEL_TRACES_SAMPLER="always_off"), gateway=otel(collector)
        )
        await stack.create(NOTES, "notes")
        await delivered(stack, "gateway", f"INSERT INTO notes VALUES (1, '{ALICE}')")
        await stack.stop("relay")
        stack.set(
            "relay", OTEL_TRACES_SAMPLER="parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG="1"
        )
        stack.set("gateway", AYB_TRACES_RATIO="0.000001")
        await stack.start("relay")
        await stack.restart("gateway")
        await delivered(stack, "gateway", f"INSERT INTO notes VALUES (2, '{ALICE}')")
        await collector.until(lambda: collector.named("write"))
        assert len({span.trace for span in collector.named("write")}) == 1
        [deliver] = collector.named("deliver")
        assert deliver.parent in {span.id for span in collector.named("batch")}


async def test_a_relay_without_traces(start_stack: StartStack) -> None:
    """Without a trace from the relay, a gateway begins its own, from delivery to write."""
    with Collector() as collector:
        stack = await start_stack(gateway=otel(collector))
        await stack.create(NOTES, "notes")
        await delivered(stack, "gateway", f"INSERT INTO notes VALUES (1, '{ALICE}')")
        await collector.until(lambda: collector.named("write"))
        [deliver] = collector.named("deliver")
        assert deliver.parent == ""
        assert {span.service for span in collector.spans} == {"ayb-gateway"}
        assert collector.named("receive") == []


@pytest.mark.parametrize("older", ["relay", "gateway"])
async def test_beside_the_previous_release(
    start_stack: StartStack, require: Requirements, tmp_path: Path, older: str
) -> None:
    """A relay that traces and a gateway of the previous release understand each other over the bus,
    and the other way round, whether the previous release traces or not.
    """
    previous = unpack(previous_commit(require), tmp_path / "previous")
    with Collector() as collector:
        stack = await start_stack(relay=otel(collector), gateway=otel(collector))
        await stack.create(NOTES, "notes")
        if older == "relay":
            await stack.add_relay("old", directory=previous)
            await stack.stop("relay")
            await stack.ready("old")
            gateway = "gateway"
        else:
            await stack.add_gateway("old", directory=previous)
            gateway = "old"
        reads = await outbox_reads(stack, gateway)
        async with stack.stream("notes", token=stack.token(ALICE), gateway=gateway) as client:
            await client.connected()
            for number in range(20):
                await stack.sql(f"INSERT INTO notes VALUES ({number}, '{ALICE}')")
                await client.next_message()
                before, reads = reads, await outbox_reads(stack, gateway)
                if before == reads:  # at first, the table's channel may not be subscribed to yet
                    break
            else:
                raise AssertionError("every batch is read from the outbox")
        if older == "relay":
            await collector.until(lambda: collector.named("write"))
            known = {"", *(span.id for span in collector.named("batch"))}  # if it traces already
            assert {span.parent for span in collector.named("deliver")} <= known
        else:
            await collector.until(lambda: collector.named("publish"))


async def outbox_reads(stack: Stack, gateway: str) -> str:
    """How often a gateway has read the outbox; no message of the bus was dropped by it."""
    async with httpx.AsyncClient(trust_env=False) as http:
        page = (await http.get(f"{stack.url(gateway)}/metrics")).text
    assert "ayb_bus_messages_dropped_total 0.0" in page
    return next(line for line in page.splitlines() if line.startswith("ayb_outbox_reads_total"))


async def test_a_collector_that_is_away(start_stack: StartStack) -> None:
    """Nothing listens, or what listens never answers: events arrive, memory has a bound, the log
    says it once, and processes end as fast as ever.
    """
    with socket.create_server(("127.0.0.1", 0)) as mute:
        dead = {
            "AYB_TRACES_RATIO": "1",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_BSP_MAX_QUEUE_SIZE": "64",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "16",
        }
        stack = await start_stack(
            relay={**dead, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"},
            gateway={
                **dead,
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{mute.getsockname()[1]}",
            },
        )
        await stack.create(NOTES, "notes")
        async with stack.stream("notes", token=stack.token(ALICE)) as client:
            await client.connected()
            for number in range(60):
                await stack.sql(f"INSERT INTO notes VALUES ({number}, '{ALICE}')")
                message = await client.next_message()
                assert f'"id":{number},' in message.data
            process = psutil.Process(stack.child("gateway").pid)
            threads = process.num_threads()
            before = process.memory_info().rss
            for number in range(60, 120):
                await stack.sql(f"INSERT INTO notes VALUES ({number}, '{ALICE}')")
                await client.next_message()
            assert process.memory_info().rss - before < 8 * 1024 * 1024
            assert process.num_threads() <= threads
        assert await stack.stop("gateway") == 0
        assert await stack.stop("relay") == 0
        for part in ("relay", "gateway"):
            full = re.findall(r"Queue full", stack.log(part))
            assert len(full) <= 1, part
        assert "traces" in stack.log("relay")


async def test_traces_that_cannot_be_sent_are_one_clear_error(start_stack: StartStack) -> None:
    """OTEL_* that asks for what there is not ends the start with one line that says what to do."""
    stack = await start_stack(start=False)
    wrong = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": ("grpc", "OTEL_EXPORTER_OTLP_PROTOCOL: traces are sent by"),
        "OTEL_EXPORTER_OTLP_ENDPOINT": ("collector:4318", "must begin with http:// or https://"),
        "OTEL_TRACES_EXPORTER": ("zipkin", "OTEL_TRACES_EXPORTER: traces are sent by otlp"),
    }
    for part in ("relay", "gateway"):
        for name, (value, text) in wrong.items():
            stack.set(part, AYB_TRACES_RATIO="0.5", **{name: value})
            stack.launch(part)
            assert stack.child(part).wait(20) == 1
            assert stack.child(part).output().count(text) == 1
            assert "Traceback" not in stack.child(part).output()
            stack.set(part, **{name: ""})
