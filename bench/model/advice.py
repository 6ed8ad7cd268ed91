"""What to do when a part is full; docs/scale.md says more."""

from __future__ import annotations

from typing import Final

ADVICE: Final = {
    "gateway, CPU": "more gateways; what each does for itself (batches, events) does not shrink, so"
    " once that is most of it, send clients to groups of gateways by the tables that they ask for",
    "gateway, memory": "more memory for each gateway, or more gateways",
    "gateway, network": "more gateways",
    "read servers, CPU": "more read servers; fewer and larger gateways, since each asks for itself;"
    " the clients of a tenant at the same gateway; policies that read less of the claims",
    "read servers, sessions": "lower AYB_REALTIME_POOL_CONNECTIONS; a pooler or more read servers;"
    " fewer and larger gateways",
    "Redis, CPU": "a second Redis in the region, each for half of the gateways: the relay publishes"
    " to all that AYB_REDIS_URL names",
    "Redis, network": "a second Redis in the region, each for half of the gateways; content=ticks"
    " moves the load to the read servers",
    "relay, CPU": "larger transactions; capture only tables that are watched; then split the"
    " database, each with its own relay",
    "primary, CPU": "larger transactions; capture only tables that are watched; a larger primary;"
    " then split the database",
    "wide area": "content=compressed for far regions, then content=ticks; what is left is"
    " replication itself",
}
"""By the part of `model.usages`."""
