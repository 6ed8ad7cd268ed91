"""The outbox: read in commit order, numbered in batches, and kept within its bounds.

* *difference*: the changes that became visible between two snapshots
* *batch*: a difference, or a part of one; recorded before it is published
* *remainder*: what is left of a difference that is too large for one batch
* *epoch*: a stretch of batch numbers that no crash of Postgres can have taken back
* *generation*: a stretch of change numbers; its changes share one of six partitions
* *horizon*: the oldest batch that can still be replayed

`reader` reads and records, `remainder` cuts, `epoch` begins epochs, `rotation` empties partitions.

What can fail, and what follows:

* Postgres crashes: the last numbers may be lost, so a new epoch begins;
* the database is another one, or was restored: a new epoch with an empty outbox;
* nothing can be emptied: at twice the bound capture stops; later clients get `resync`;
* a change cannot be rendered: it is delivered as `resync`, and reading continues.
"""
