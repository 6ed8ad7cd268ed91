"""What database servers report about themselves, and where their reports contradict each other.

After a failover, these reports show which servers have followed it: each has a system identifier, a
timeline, and the relay that it knows as the leader.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_BEHIND_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Server:
    """What one host reports about itself: the rows of the queries `server` and `identity`.

    `history` and `identity` are None if the host does not report them.
    """

    name: str
    facts: Mapping[str, Any]
    identity: Mapping[str, Any] | None
    history: str | None


def describe_server(server: Server) -> str:
    """Describe a host: primary or standby, of which server, and how current it is."""
    facts = server.facts
    timeline = "" if server.identity is None else f", timeline {server.identity['timeline']}"
    if not facts["is_standby"]:
        what = f"primary{timeline}"
    elif not facts["has_receiver"]:
        return (
            f"warning: standby{timeline} that follows no primary: see primary_conninfo, and the "
            "server's log"
        )
    else:
        sender = facts["sender"] or "a primary (pg_read_all_stats shows which)"
        what = f"standby of {sender}{timeline}"
    if facts["is_paused"]:
        return f"warning: {what}: replay is paused: SELECT pg_wal_replay_resume()"
    if facts["heard_at"] is None:
        return f"warning: {what}: no relay has ever led there"
    age = facts["clock"] - facts["heard_at"]
    if age > _BEHIND_SECONDS:
        return (
            f"warning: {what}: the relay's last sign of life there is {age:.0f} s old: no relay "
            "leads, or this server lags"
        )
    return f"ok: {what}, led by {facts['leader']}, {max(age, 0):.1f} s ago"


def contradictions(servers: Sequence[Server]) -> list[str]:
    """List the ways in which the hosts contradict each other."""
    found = []
    systems = _values(servers, "system_identifier")
    timelines = _values(servers, "timeline")
    if _differ(systems):
        found.append(f"warning: the hosts are not copies of one server: {_each(systems)}")
    elif _differ(timelines):
        found.append(
            f"warning: not every host has followed the last failover: timelines {_each(timelines)}"
        )
    primaries = [server.name for server in servers if not server.facts["is_standby"]]
    if len(primaries) > 1:
        found.append(f"warning: several primaries: {', '.join(primaries)}: fence the old one")
    leaders = {
        server.name: f"{server.facts['leader']} since {server.facts['leads_since']:%F %T}"
        for server in servers
        if server.facts["leader"] is not None
    }
    if _differ(leaders):
        found.append(
            "warning: the hosts name different leaders, so two relays may lead: fence the old "
            f"primary: {_each(leaders)}"
        )
    return found


def _values(servers: Sequence[Server], name: str) -> dict[str, str]:
    return {s.name: str(s.identity[name]) for s in servers if s.identity is not None}


def _differ(values: Mapping[str, str]) -> bool:
    return len(set(values.values())) > 1


def _each(values: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in values.items())
