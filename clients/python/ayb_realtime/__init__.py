"""Realtime changes of Postgres tables, from an ayb-realtime gateway.

    from ayb_realtime import Change, stream

    async for item in stream("https://api.example.com", ["posts"], token=session.token):
        match item:
            case Change(action, table, record):
                print(action, table, record)

The stream continues after the last item, whatever ended it: nothing is missing and nothing is
repeated. What cannot be continued arrives as a `Resync`: fetch these tables again.
"""

from ayb_realtime.items import Change, Item, Resync, StreamError, Truncate
from ayb_realtime.stream import RefusedError, TokenReason, stream

__all__ = [
    "Change",
    "Item",
    "RefusedError",
    "Resync",
    "StreamError",
    "TokenReason",
    "Truncate",
    "stream",
]
