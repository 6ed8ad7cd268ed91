"""What speaks HTTP.

A stream request comes in through `protocol` (one connection, its bounds) and `stream` (the
endpoint). `admission` checks its head, with `authentication`, and makes a frozen `StreamRequest` of
it. From then on hub and replay own the connection, and the endpoint only waits for its end; frames
reach the socket through `wire`, past the server. `oauth_stream` passes AYB's own streams on to its
server. All other paths are ordinary FastAPI routes: `tables`, `login`, `admin`, `health`, `console`
(a page that shows streams), `client_module` (the browser client), and, on the management port if
there is one, `scrape` and `openapi`.

Words:

* A refusal is an answer other than a stream (`gateway.errors`). One that passes has a
  `Retry-After`. `refusal` turns it into a `busy` event for an EventSource, which would give up for
  good otherwise.
* Ready means that a stream request would be accepted (`readiness`), not that this process is well.
* A connection is idle until the head of its request is complete, and again after each answer
  (`idle_connections`); idle ones make way for others.

States of a connection: idle, asking (its head is complete), streaming, closed. A drain closes the
listening socket after the drain delay, and then the streams in turn.

What can fail, and what follows: a head or a body that is too long or too slow is refused, and the
connection closed. If the database or a key set is away, or the gateway itself fails, the refusal
passes. What the deployment lacks (outbox, grants, roles) is `not configured`, never the client's
fault. A port that cannot be listened on ends the start with one line.
"""
