-- name: resolve
-- Find the captured tables with the given names. A table is captured if it has the relay's trigger.
-- If a name has no schema, every schema that has such a table is listed, public first.
SELECT asked.n, ns.nspname AS schema, c.relname AS "table", c.oid AS relid
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS asked (schema, "table", n)
JOIN pg_catalog.pg_class AS c ON c.relname = asked."table" AND c.relkind IN ('r', 'p')
JOIN pg_catalog.pg_namespace AS ns
    ON ns.oid = c.relnamespace AND (asked.schema IS NULL OR ns.nspname = asked.schema)
WHERE EXISTS (
    SELECT FROM pg_catalog.pg_trigger AS t
    WHERE t.tgrelid = c.oid AND t.tgname = '!ayb_realtime_row_' || c.oid::text
)
ORDER BY asked.n, ns.nspname <> 'public', ns.nspname

-- name: gone
-- Which of the given names (schema.table) no longer belong to a captured table.
SELECT asked.name
FROM unnest($1::text[]) AS asked (name)
WHERE NOT EXISTS (
    SELECT FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS ns ON ns.oid = c.relnamespace
    JOIN pg_catalog.pg_trigger AS t
        ON t.tgrelid = c.oid AND t.tgname = '!ayb_realtime_row_' || c.oid::text
    WHERE ns.nspname || '.' || c.relname = asked.name
)

-- name: has_outbox
-- Whether there is an outbox at all: without its schema, no table has a trigger.
SELECT pg_catalog.to_regnamespace('ayb_realtime') IS NOT NULL

-- name: role
-- Whether a client role exists and is privileged, and whether this login, also returned, may take
-- it.
SELECT current_user AS login,
       r.oid IS NULL AS is_missing,
       coalesce(r.rolsuper OR r.rolbypassrls, false) AS is_privileged,
       coalesce(pg_catalog.pg_has_role(current_user, r.oid, 'MEMBER'), false) AS may_be_taken
FROM (SELECT) AS one
LEFT JOIN pg_catalog.pg_roles AS r ON r.rolname = $1

-- name: readable_tables
-- The captured tables of which a role may read any column, and those columns; every table and column
-- if the role is NULL. One more than $2 at most, those in public first.
SELECT ns.nspname AS schema, c.relname AS "table", readable.names, readable.types, readable.nullable,
    ARRAY(
        SELECT a.attname::text
        FROM pg_catalog.pg_index AS i
        CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (attnum, place)
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.attnum
        WHERE i.indrelid = c.oid AND i.indisprimary AND k.place <= i.indnkeyatts
        AND a.attname = ANY (readable.names)
        ORDER BY k.place
    ) AS key
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS ns ON ns.oid = c.relnamespace
JOIN pg_catalog.pg_trigger AS t
    ON t.tgrelid = c.oid AND t.tgname = '!ayb_realtime_row_' || c.oid::text
LEFT JOIN pg_catalog.pg_roles AS r ON r.rolname = $1
CROSS JOIN LATERAL (
    SELECT array_agg(a.attname::text ORDER BY a.attnum) AS names,
        array_agg(pg_catalog.format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum) AS types,
        array_agg(NOT a.attnotnull ORDER BY a.attnum) AS nullable
    FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    AND ($1::text IS NULL OR has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT'))
) AS readable
WHERE c.relkind IN ('r', 'p')
AND ($1::text IS NULL OR has_schema_privilege(r.oid, ns.oid, 'USAGE'))
AND readable.names IS NOT NULL
ORDER BY ns.nspname <> 'public', ns.nspname, c.relname
LIMIT $2 + 1
