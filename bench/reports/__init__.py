"""What a run found: from the values of each repetition to docs/benchmarks.md.

A **measured** value is a median with its quartiles; a **figure** has one for each case and
contender; a **report** has the figures of one benchmark; a **document** has the reports of a run.
`tables` and `plots` show figures, and `page` puts them into the documentation.
"""
