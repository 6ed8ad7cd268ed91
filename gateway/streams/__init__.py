"""One client: its stream, how far it has come, and how it ends.

Words:

    subscription  the tables a client named, with their OIDs (`subscription`)
    cursor        how far a connection has been served: epoch, batch and index in one integer
                  (`cursor`); what a client sees of it is the position, the SSE `id`
    staged        frames that delivery is about to write to a connection
    pending       bytes that wait for a full socket, bounded
    frame         bytes of events, with their framing as an HTTP chunk (`frame`)
    wire          the socket, written to past the web server (`wire`)
    record        the columns of a row that the role may read (`projection`)

A connection (`connection`) is open, blocked while its socket is full, or closed, for one reason:

    gone      the client closed it, or the socket broke
    stalled   the client read nothing for 30 seconds; reading slowly is no reason
    expired   the token has expired
    drained   this gateway stops (`drain`)

What can fail, and what follows: with too many pending bytes a connection moves to replay, which
waits until its socket has drained, so nothing is dropped and memory stays bounded. Past the limits
(`limits`) a stream is refused before it begins.
"""
