"""The names of the Redis channels."""

from __future__ import annotations

from shared.channels import Channels


def test_deployments_have_channels_of_their_own() -> None:
    """By default the names hold the identity of the log, so two deployments never share one."""
    one, other = Channels.of("0123"), Channels.of("4567")
    assert one.tick == "ayb:realtime:0123:tick"
    assert one.table("public.posts") == "ayb:realtime:0123:table:public.posts"
    assert {one.tick, one.table("a.b")}.isdisjoint({other.tick, other.table("a.b")})


def test_a_prefix_replaces_the_identity() -> None:
    """With a configured prefix the names begin with exactly that."""
    channels = Channels.of("0123", "staging")
    assert (channels.tick, channels.table("a.b")) == ("staging:tick", "staging:table:a.b")


def test_no_table_has_the_channel_of_something_else() -> None:
    """Whatever a table is called, its channel is not that of ticks, nor that of relays."""
    channels = Channels.of("0123")
    assert channels.relays == "ayb:realtime:0123:relays"
    for table in ("", "tick", ":tick", "public.tick", "relays", ":relays"):
        assert channels.table(table) not in (channels.tick, channels.relays)
