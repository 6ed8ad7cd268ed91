"""What relay and gateway have in common: the words, the wire between them, the database.

* `change`, `position`, `channels`, `signature`: the messages on the bus, pure.
* `outbox`, `render`: batches read from the outbox, the same bytes whoever reads them.
* `postgres`, `pool`: sessions with pinned settings; `redis`: clients with bounded waits.
* `sql`: queries, migrations and functions, each in `.sql` files.
* `settings`, `logging`, `errors`, `tasks`, `backoff`, `gc_tuning`: what every process needs.

Errors are one tree. A server that is away, or refuses us, is `DatabaseUnavailableError` and tried
again; what only an operator can correct is `OperatorError`, one line, and ends the process.
"""
