"""The joined form: one statement for all cohorts and images of a table.

For policies whose parts that read the row are plain: columns, pure functions, tables without RLS of
their own. Everything else in them must not read the row; it is computed for each cohort by itself.

The way of a policy: text (`lexer`: tokens; `expressions`: operands) to what does not read the row
(`closed_expressions`, `semijoins`), which becomes columns of a table of cohorts
(`setting_expressions`); what remains is checked (`joinable`) and written as a statement
(`statement`). The way of a question: values of cohorts, kept (`kept_values`) or computed by
Postgres, the statement (`joined_form`), and the rows of its answer (`answer_rows`).

Words: a *closed* expression reads nothing of the row. A *setting expression* is one that becomes a
column. Its value is *kept* where settings alone decide it, else *computed* for each question. A
*group* is all cohorts with the same values. A cohort is *excluded* where it has no value.

What can fail, and what follows: a policy that is not understood is not joinable, and the table gets
another form; so does one whose statement fails by how it is written (`JoinedFailsError`), and one
whose functions read the table itself (`TableReadError`). An expression that raises for a cohort
excludes that cohort, which is asked by itself. Any other error in the statement sends this question
to the loop.
"""
