"""Commands for operators: what the gateway would decide and why, and whether it delivers.

* `doctor` compares the region's database hosts with each other (`region`, `database_hosts`) and
  listens for ticks on its Redis (`ticks`): which primary each host follows, how far it is behind,
  whether two relays lead. Then it lists, for each captured table and role, the form in which
  visibility is asked, what that costs, and how to write the policy for a cheaper one.
* `explain` (and `explanation`, its result) says for one client and one row why an event was or was
  not delivered. The administrator's HTTP endpoint answers with the same object.
* `smoke` tries an installation as a client would: readiness, a token, a stream, an event. It is the
  one command that changes something, a row by the SQL it is given; `frames` reads the stream.

The first two use the engine of `gateway.visibility` itself, so they cannot disagree with the
stream. What can fail: the settings, the database, a token that is not valid, an unknown table or
key; each is one line and exit status 1. Row values are never shown.
"""
