-- name: rules
-- Everything that decides what a role may see of a table, and its fingerprint.
SELECT r.rules::pg_catalog.text AS rules, pg_catalog.md5(r.rules::pg_catalog.text) AS fingerprint
FROM (SELECT ayb_realtime.rules($1, $2)) AS r (rules)

-- name: catch_up
-- Wait until a standby has replayed a position.
SELECT ayb_realtime.catch_up($1)

-- name: readable_columns
-- The columns of a table that a role may read.
SELECT ayb_realtime.readable_columns($1, $2)

-- name: judge_joined
-- The joined form: one question for all cohorts and images. The kept values ($6) are packed: see
-- gateway/visibility/joined/packed_texts.py.
SELECT kind, events, cohorts
FROM ayb_realtime.judge_joined($1, $2, $3, $4, $5,
    (pg_catalog.string_to_array($6::pg_catalog.text, $12::pg_catalog.text, $13::pg_catalog.text))[2:],
    $7, $8, $9, $10, $11)

-- name: judge_looped
-- The looped form: each cohort separately, on images.
SELECT cohort, visible, superseded, failure, next_cohort, costs
FROM ayb_realtime.judge_looped($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)

-- name: judge_opaque
-- The opaque form: a SELECT for each cohort.
SELECT cohort, visible, superseded, failure, next_cohort, costs
FROM ayb_realtime.judge_opaque($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)

-- name: expression_types
-- The types of setting expressions for a role, and the current values of settings that the gateway
-- does not set.
SELECT ayb_realtime.expression_types($1, $2, $3) AS types, ARRAY(
    SELECT pg_catalog.current_setting(s.name, true)
    FROM pg_catalog.unnest($4::pg_catalog.text[]) WITH ORDINALITY AS s (name, n) ORDER BY s.n
) AS settings,
-- In the snapshot from before the types: a later change is found out by the question itself.
pg_catalog.md5(ayb_realtime.rules($5, $1)::pg_catalog.text) IS NOT DISTINCT FROM $6 AS is_current

-- name: cohort_values
-- The values that a query returns for each cohort separately, under the expected rules.
SELECT v.found::pg_catalog.text[] AS found
FROM pg_catalog.unnest(ayb_realtime.keep_values($1, $2, $3, $4, $5, $6, $7))
    WITH ORDINALITY AS v (found, n)
ORDER BY v.n

-- name: builtins
-- The names of functions in pg_catalog that depend only on their arguments, which means that every
-- function of that name is immutable. `scalar` lists those of them under which no function is an
-- aggregate or returns a set.
SELECT pg_catalog.array_agg(f.proname::pg_catalog.text) AS pure,
    pg_catalog.array_agg(f.proname::pg_catalog.text) FILTER (WHERE f.is_scalar) AS scalar
FROM (
    SELECT p.proname,
        pg_catalog.bool_and(p.prokind OPERATOR(pg_catalog.=) 'f' AND NOT p.proretset) AS is_scalar
    FROM pg_catalog.pg_proc AS p
    WHERE p.pronamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace::pg_catalog.oid
    GROUP BY p.proname HAVING pg_catalog.bool_and(p.provolatile OPERATOR(pg_catalog.=) 'i')
) AS f

-- name: latest_images
-- For the self-check: the newest images of rows according to the outbox.
SELECT ayb_realtime.latest_images($1, $2, $3)
