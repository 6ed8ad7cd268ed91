-- name: list_tables
-- Plain tables and the roots of partitioned tables, with our triggers on them.
SELECT
    c.oid,
    n.nspname AS schema,
    c.relname AS name,
    format('%I.%I', n.nspname, c.relname) AS quoted,
    pg_has_role(c.relowner, 'USAGE') AS is_owned,
    EXISTS (
        SELECT FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attgenerated = 'v' AND NOT a.attisdropped
    ) AS has_virtual,
    coalesce(t.names, '{}') AS trigger_names,
    coalesce(t.functions, '{}') AS trigger_functions,
    coalesce(t.states, '{}') AS trigger_states
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
    SELECT
        array_agg(g.tgname::text ORDER BY g.tgname) AS names,
        array_agg(p.proname::text ORDER BY g.tgname) AS functions,
        array_agg(g.tgenabled::text ORDER BY g.tgname) AS states
    FROM pg_trigger g
    JOIN pg_proc p ON p.oid = g.tgfoid
    JOIN pg_namespace pn ON pn.oid = p.pronamespace
    WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND pn.nspname = 'ayb_realtime'
) t ON true
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'ayb_realtime', 'pg_toast')
-- As in the view captured: names in an unknown encoding mean nothing to a client.
AND (getdatabaseencoding() <> 'SQL_ASCII' OR NOT EXISTS (
    SELECT FROM pg_attribute a
    WHERE a.attrelid = c.oid AND n.nspname || c.relname || a.attname ~ '[^ -~]'
))
ORDER BY n.nspname, c.relname

-- name: limit_lock_wait
SELECT set_config('lock_timeout', $1, true)

-- name: note_column_names
-- Record which columns have which names now, and which names have passed to another column. If
-- capture has stopped, the sequence is at its end; then the start of the next generation is
-- recorded.
INSERT INTO ayb_realtime.column_names AS known (relid, name, attnum)
SELECT a.attrelid, a.attname::text, a.attnum
FROM pg_trigger g
JOIN pg_attribute a ON a.attrelid = g.tgrelid
LEFT JOIN ayb_realtime.column_names k ON k.relid = a.attrelid AND k.name = a.attname
WHERE g.tgname = '!ayb_realtime_row_' || g.tgrelid
AND a.attnum > 0 AND NOT a.attisdropped AND k.attnum IS DISTINCT FROM a.attnum
ON CONFLICT (relid, name) DO UPDATE SET
    attnum = excluded.attnum,
    reused_seq = (
        SELECT CASE WHEN s.last_value < 9223372036854775807 THEN s.last_value
        ELSE (SELECT (max(n.generation) + 1) << 40 FROM ayb_realtime.generations n) END
        FROM ayb_realtime.change_seq s
    )

-- name: forget_column_names
DELETE FROM ayb_realtime.column_names k
WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = k.relid)
