"""From the bus to the connections: which batches come next, who gets what of them, and when.

Words:

    batch         the changes that became visible together; numbered without holes
    epoch         a stretch of numbers that no crash of Postgres took back (`epochs`)
    ring          the newest batches in memory, bounded in bytes (`ring`)
    confirmed     a number that the outbox has; `newest` may be ahead of it by ticks without a hole
    current       the batch that the hub delivers now, or delivered last (`hub`)
    live          a connection that gets each batch as it comes
    replay        a connection that is behind, and is brought up to the live ones (`replay`)
    lane          the connections that replay serves together: the common one, or those of a table
                  that is slow to judge (`lane`, `slow_tables`)
    given up      a table that a round does not wait for any longer: its connections get nothing of
                  the round, and go to its lane
    postponed     connections that a table's question left out: those of users who cost the table
                  most of its time go to a second lane, the others come first in the next question
    dispatch      a frame and the connections that get it (`routing` decides, `delivery` writes)

A connection is in one of two places, and moves between them:

    resume with a position ---> replay <--- socket full for too long, a burst on its tables, or a
                                  |  ^      table that was given up
              has reached current |  | leaves
                                  v  |
    connect without one ------> live (hub)

What can fail, and what follows:

    a message is lost          the number is missing: the batch is read from the outbox
    no tick for 2.5 seconds    the outbox is polled: late, never lost
    ticks come late            the outbox is read as soon as it has the batches (`staleness_watch`)
    nothing new for 2 seconds  readiness, metric and log say so, and why (`staleness`)
    a number that no one       it is looked up, and forgotten after a second
    confirms is announced
    Postgres cannot be asked   the round is held and asked again; nothing is written unjudged
    one table is not answered  it is given up, and the round goes on without its connections
    an epoch ends              the hub steps back to the last batch that stands; connections that
                               were sent a number that was taken back get `resync` (unknown)
    a batch was rotated away   those who still needed it get `resync` (expired)
    a change cannot be judged  its table's clients get `resync` (overflow)
"""
