"""The relay: from the outbox in Postgres to Redis, one active process per database.

    trigger -> outbox -> `outbox` (batches) -> `publisher` -> Redis

* `app` puts the parts together: connect, migrate, lead, then read and publish until the connection
  or the lead is lost, and again.
* `loop` is what an active relay does: read, publish, idle; `pace` is how long changes gather.
* `rival_watch` notices another leader of the same log, on an old primary that was not fenced.
* `session` is what it holds in Postgres: the lead, the sleep lock, LISTEN.
* `capture` keeps the triggers on the tables; `schema` keeps tables and functions up to date.
* `health` and `metrics` are what an operator sees; `doctor` is what an operator asks.

A relay without the lead stands by. Losing Postgres, the lead or a Redis ends no relay: it connects
again, and clients get late what is in the outbox. Only what an operator must correct ends it
(`OperatorError`), with one line.
"""
