"""A gateway's fan-out on a simulated clock, over an outbox in memory.

Hub, replayer, backlog, bus (from the decoded message on), delivery, heartbeat, admission, endpoint
and connections are the real classes. Modelled are the outbox (`outbox_model`, at the boundary of
the pool), the sockets (hand-written ASGI `receive` and `send`) and the clock (`event_loop`).
"""
