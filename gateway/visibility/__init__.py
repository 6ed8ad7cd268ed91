"""Whether a cohort may see a row image: Postgres decides.

* *image*: a row as it was in a change
* *cohort*: connections that Postgres cannot tell apart on a table
* *rules*: what the catalog says about a table and a role, with a fingerprint
* *form*: how a table is asked: open, closed, joined, looped or opaque (`plan`)

`engine` is the entrance and `answer` what it returns. `questions` asks in bounded portions, through
the round trips of `queries`. `joined` has the form for all cohorts at once, `looped` and `opaque`
ask each cohort by itself. `self_check` compares answers with a real SELECT.

"Failed" is never taken for "denied" or "empty":

* the database cannot be asked, or a replica lags: `DatabaseUnavailableError`, and the events wait;
* the rules changed under the question: the answer is discarded, and the question asked again;
* a policy raises or takes too long for a cohort: that cohort gets an error frame, none of the
  changes, and a `resync` later;
* an image cannot be judged: no one sees it, and subscribers get `resync`;
* the self-check finds a difference: the stricter answer counts, and the table is asked otherwise.
"""
