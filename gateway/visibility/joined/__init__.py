"""The joined form: one statement for all cohorts and images of a table.

It is used for policies in which the parts that read the row are simple: columns, pure functions,
tables without RLS of their own. All other parts must not read the row; they are computed for each
cohort separately.

How a policy is processed: its text is split into tokens (`lexer`) and operands (`expressions`).
Parts that do not read the row (`closed_expressions`, `semijoins`), and calls of functions that read
other tables only (`given_calls`), become columns of a table of cohorts (`setting_expressions`). The
rest is checked (`joinable`) and written as a statement (`statement`). How a question is answered:
the cohorts' values are either kept (`kept_values`) or computed by Postgres, then the statement runs
(`joined_form`), and the rows of its answer are read (`answer_rows`).

Terms: a *closed* expression reads nothing from the row. A *setting expression* is a closed
expression that becomes a column. Its value is *kept* if it depends on settings alone; otherwise it
is *computed* for each question. A *group* consists of all cohorts with the same values. A cohort is
*excluded* if it has no value.

What can fail, and what happens then: a policy that is not understood is not joinable, and the table
uses another form. So does a table whose statement fails because of how it is written
(`JoinedFailsError`), and one whose policies' functions read the table itself (`TableReadError`). If
an expression raises for a cohort, that cohort is excluded and asked separately. After any other
error in the statement, this question goes to the loop.
"""
