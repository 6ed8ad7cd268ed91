"""Who a client is: tokens, and the login that hands them out.

A token goes through `jws` (a compact signature, read strictly), a key (`shared_secret`, or a
`public_key` of the set in `jwks`, which follows a file or URL of `jwks_source`), and `claims`;
`claim_path` finds nested ones, and `claim_settings` says which become settings. `verifier` returns
frozen `Claims`. `login` turns a password (`users`, `passwords`) or a refresh token (`issuer`) into
a session, no more often than `throttle` allows.

Words: claims are what a verified token says; settings are those of the claims that Postgres sees;
the role is the Postgres role that a client acts as, from the deployment's settings or from a claim
that may only choose among those.

What can fail, and what follows: every fault of a token is `invalid or expired token` to the client;
only the log says which. A key set that cannot be read leaves the last one in force; if none was
ever read, requests are refused for a passing reason, as without the database. Failed logins cost
their network tries, and never lock a user out elsewhere.
"""
