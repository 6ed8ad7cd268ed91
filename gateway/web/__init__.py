"""What speaks HTTP.

A stream request comes in through `protocol` (one connection, its bounds) and `stream` (the
endpoint). `admission` checks its head, with `authentication`, and makes a frozen `StreamRequest` of
it; from there on the connection belongs to hub and replay, and the endpoint only waits for the end.
`oauth_stream` passes AYB's own streams on to its server. All other paths are ordinary FastAPI
routes: `tables`, `login`, `admin`, `health`, and, on the management port if there is one,
`scrape` and `openapi`.

Words:

* A refusal is an answer that is no stream (`gateway.errors`). One that passes has a `Retry-After`.
  `refusal` turns it into a `busy` event for an EventSource, which would never come back otherwise.
* Ready means that a stream request would be accepted (`readiness`), not that this process is well.
* A connection is idle until the head of its request is complete, and again after each answer
  (`idle_connections`); idle ones make way for others.

States of a connection: idle, asking (its head is complete), streaming, closed. A drain closes the
listening socket after the drain delay, and then the streams in turn.

What can fail, and what follows: a head that is too long or too slow is refused or cut; a body too.
The database or a key set being away, and faults of ours, are refusals that pass. What the
deployment lacks (outbox, grants, roles) is `not configured`, never the client's fault. A port that
cannot be listened on ends the start with one line.
"""
