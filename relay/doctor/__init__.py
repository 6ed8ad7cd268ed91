"""`python -m relay doctor`: what a deployment needs, checked one by one. Nothing is changed.

A check looks at one thing and yields findings: `ok`, `warn` (works, but probably not as meant) or
`FAIL` (does not work). A finding says what was found and, unless it is ok, what to do about it. The
exit status is 1 if any finding is a failure.

* `checks` puts the checks in order and turns whatever stops one into a finding.
* `server` looks at the primary: version, LISTEN, the outbox, who leads.
* `tables` looks at what is captured: triggers, rights, policies, columns that look like secrets.
* `read_database` looks at the gateways' login and at how far their replica is behind.
* `bus` sends a message through each Redis.

A check that cannot be made fails, with the reason; the others are made all the same. Passwords are
removed from all that is printed.
"""
