"""What the system catalogs say: tables by the names that clients write, and roles.

`names` reads the `tables` parameter. `catalog` finds the captured table that each name means, and
whether a role may read it. `roles` says whether clients can act as a role. `recent_answers` keeps
answers for a second, so that a crowd of clients costs one query, and bounds what is kept.

A table is captured once the relay has put its trigger on it; until then its name is unknown, as if
there were no such table. If the outbox itself is missing, no name is called unknown: the deployment
is at fault, and the request is refused for a passing reason. The same holds for a role that is
missing, not granted, or above row security.

Nothing here decides who sees what: each event is judged by itself, at the moment it is delivered.
"""
