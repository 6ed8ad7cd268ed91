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
        array_agg(
            format('%s(%s)', p.proname, CASE WHEN g.tgnargs > 0 THEN '''computed''' END)
            ORDER BY g.tgname
        ) AS functions,
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
-- Record which columns have which names and types now, which names have passed to another column,
-- and which columns have got another type.
INSERT INTO ayb_realtime.column_names AS known (relid, name, attnum, type, typmod)
SELECT a.attrelid, a.attname::text, a.attnum, a.atttypid, a.atttypmod
FROM pg_trigger g
JOIN pg_attribute a ON a.attrelid = g.tgrelid
LEFT JOIN ayb_realtime.column_names k ON k.relid = a.attrelid AND k.name = a.attname
WHERE g.tgname = '!ayb_realtime_row_' || g.tgrelid
AND a.attnum > 0 AND NOT a.attisdropped
AND (k.attnum, k.type, k.typmod) IS DISTINCT FROM (a.attnum, a.atttypid, a.atttypmod)
ON CONFLICT (relid, name) DO UPDATE SET
    attnum = excluded.attnum,
    type = excluded.type,
    typmod = excluded.typmod,
    reused_seq = CASE WHEN known.attnum = excluded.attnum THEN known.reused_seq
        ELSE ayb_realtime.newest_seq() END,
    retyped_seq = CASE WHEN (known.type, known.typmod) = (excluded.type, excluded.typmod)
        THEN known.retyped_seq ELSE ayb_realtime.newest_seq() END

-- name: may_note_computed
SELECT has_table_privilege('ayb_realtime.column_names', 'INSERT')
AND has_table_privilege('ayb_realtime.column_names', 'UPDATE')

-- name: note_computed
-- Record that the generated columns of table $1 that are not stored were null in its images until
-- now, whatever their values were; its trigger must be locked.
INSERT INTO ayb_realtime.column_names AS known (relid, name, attnum, type, typmod, reused_seq)
SELECT a.attrelid, a.attname::text, a.attnum, a.atttypid, a.atttypmod, ayb_realtime.newest_seq()
FROM pg_attribute a
WHERE a.attrelid = $1 AND a.attgenerated = 'v' AND NOT a.attisdropped
ON CONFLICT (relid, name) DO UPDATE SET reused_seq = excluded.reused_seq

-- name: forget_column_names
DELETE FROM ayb_realtime.column_names k
WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = k.relid)

-- name: note_enum_labels
-- Record which values of enums have which labels now, and which labels have passed to another
-- value: see enum_labels in the migrations.
INSERT INTO ayb_realtime.enum_labels AS known (type, label, value)
SELECT e.enumtypid, e.enumlabel::text, e.oid
FROM pg_enum e
LEFT JOIN ayb_realtime.enum_labels k ON k.type = e.enumtypid AND k.label = e.enumlabel
WHERE k.value IS DISTINCT FROM e.oid
ON CONFLICT (type, label) DO UPDATE SET
    value = excluded.value,
    waits_for = pg_snapshot_xmax(pg_current_snapshot())

-- name: settle_enum_labels
-- All changes that may have a label's former meaning have a seq by now.
UPDATE ayb_realtime.enum_labels
SET waits_for = NULL, reused_seq = ayb_realtime.newest_seq()
WHERE waits_for <= pg_snapshot_xmin(pg_current_snapshot())

-- name: forget_enum_labels
DELETE FROM ayb_realtime.enum_labels k
WHERE NOT EXISTS (SELECT FROM pg_type t WHERE t.oid = k.type)
