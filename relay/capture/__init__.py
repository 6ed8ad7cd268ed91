"""Which tables are captured, and the triggers on them.

* `patterns`: which tables the settings name.
* `triggers`: installs what is missing and removes what is too much, at the start and at each scan.

The functions behind the triggers are in `shared/sql/functions/capture_*.sql`. What can fail is DDL:
a table in use, a missing right, an event trigger. It concerns that table alone, is logged once,
shown in readiness and metrics, and tried again at the next scan. Until then the table is not
captured.
"""
