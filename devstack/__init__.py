"""The whole stack with one command: embedded servers, demo tables and users, relay and gateway.

* `command` is `python -m devstack`; `stack` starts everything in order, watches it, and stops it.
* `postgres`, `valkey` (`server`, `process`, `launch`, `account`, `binaries`, `ports`): servers as
  child processes that end with us. The tests run on these too.
* `demo` and `sql/demo.sql`: tables with policies, and users with a known password. They go into a
  database of somebody else only if `AYB_DEV_DEMO` says so.
* `changes` shows what passes over the bus.

If a part ends, the rest is stopped, with one line that names it. Whatever is wrong with ports,
folders or data is one line that says what to do, before anything is started where possible.
"""
