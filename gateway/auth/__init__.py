"""Who a client is: tokens, and the login that hands them out.

A token goes through `jws` (a compact signature, read strictly), a key (`shared_secret`, or a
`public_key` of the set in `jwks`, which follows a file or URL of `jwks_source`), and
`claim_mapping`, which finds the role and the settings (`claim_path`, `claim_settings`); `verifier`
returns frozen `Claims`, and `verified_tokens` knows those of a moment ago. An API key of AYB is
looked up instead (`api_keys`), and `api_key_watch` ends its streams when it is revoked. `login`
turns a password (`users`, `passwords`) or a refresh token (`issuer`) into a session, no more often
than `throttle` allows, and a log-out ends it (`revoked_sessions`).

Words: claims are what a verified token says; settings are those of the claims that Postgres sees;
the role is the Postgres role that a client acts as, from the deployment's settings or from a claim
that may only choose among those.

What can fail, and what follows: every fault of a token is `invalid or expired token` to the client,
which learns no more than whether the token has only expired; the log says which. A key set that
cannot be read leaves the last one in force; if none was ever read, requests are refused for a
passing reason, as without the database. So are API keys while the database is away, and refreshes
and log-outs while Redis is. Failed logins cost their network tries, and never lock a user out
elsewhere.
"""
