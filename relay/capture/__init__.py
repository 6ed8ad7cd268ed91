"""Which tables are captured, and the triggers on them.

`patterns` reads `AYB_REALTIME_TABLES`; `triggers` installs what is missing and removes what no
longer matches, at the start and at each scan. The trigger functions are in `shared/sql/functions`.

What can fail, and what follows:

* the table is in use: the lock has a short timeout, and the next scan tries again;
* the login lacks a right: the log says once what to do, and the other tables are captured.
"""
