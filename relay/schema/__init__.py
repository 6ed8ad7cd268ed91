"""The schema `ayb_realtime` in the application's database: making it, and removing it.

`migrate` applies missing migrations and replaces functions, in one transaction. `install` does that
by hand and puts the triggers on. `roles` prints the SQL for the logins; `uninstall` removes all.

What can fail, and what follows:

* the login may not: `SchemaError` with what to do, and nothing is left half done;
* a function is no longer made: it is dropped one release later, unless something depends on it;
* a migration was edited after it was applied: the relay does not start;
* the functions come from a newer release: they are left as they are.
"""
