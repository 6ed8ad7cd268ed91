-- The self-check: which images are told by a real SELECT under a cohort's role and settings. Only of
-- images whose row is the same now can anything be said: rows of
--
--   cohort > 0   the images whose row the cohort sees, and sees unchanged
--   cohort = 0   the images whose row is unchanged by the outbox: its last change among the recent
--                ones left it so
--
-- Both images go through the table's row type, so that it does not matter how they were written.
-- A table without a primary key is not checked; a cohort for which the SELECT raises has no row.
CREATE OR REPLACE FUNCTION ayb_realtime.verify(table_oid oid, client text, settings text[], images text[])
RETURNS TABLE (cohort integer, seen integer[])
    LANGUAGE plpgsql VOLATILE
AS $verify$
DECLARE
    path text := pg_catalog.current_setting('search_path');
    row_type text;
    key text[];
    matches text;
    since xid8;
    latest text[];
    place integer;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    PERFORM set_config('transaction_read_only', 'on', true), set_config('lc_monetary', 'C', true);
    SELECT format('%I.%I', n.nspname, c.relname), array_agg(a.attname::text),
        string_agg(format('now_there.%I = asked.%I', a.attname, a.attname), ' AND ')
    INTO row_type, key, matches
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey)
    WHERE c.oid = table_oid
    GROUP BY n.nspname, c.relname;
    IF row_type IS NULL THEN
        RETURN;
    END IF;

    -- Whatever was committed after these batches has a transaction number from here on.
    -- (Postgres 14 has no minimum of transaction numbers.)
    SELECT coalesce((array_agg(b.xmin ORDER BY b.xmin))[1], '0') INTO since
    FROM (
        SELECT pg_snapshot_xmin(prev_snapshot) AS xmin
        FROM ayb_realtime.batches ORDER BY id DESC LIMIT 100
    ) AS b;
    -- Each image is parsed once, for its key; then keys are compared.
    WITH asked AS MATERIALIZED (
        SELECT u.n, ARRAY(SELECT u.image::json ->> k.name FROM unnest(key) AS k (name)) AS of_row
        FROM unnest(images) WITH ORDINALITY AS u (image, n)
    ), recent AS MATERIALIZED (
        SELECT c.xid, c.seq, c.op,
            ARRAY(SELECT c.new ->> k.name FROM unnest(key) AS k (name)) AS new_row,
            ARRAY(SELECT c.old ->> k.name FROM unnest(key) AS k (name)) AS old_row
        FROM ayb_realtime.changes c
        WHERE c.xid >= since AND c.relid = table_oid
    )
    SELECT array_agg(c.new::text ORDER BY a.n) INTO latest
    FROM asked a
    LEFT JOIN LATERAL (
        SELECT r.xid, r.seq FROM recent r
        WHERE r.op = 'T' OR a.of_row IN (r.new_row, r.old_row)
        ORDER BY r.seq DESC LIMIT 1
    ) AS l ON true
    LEFT JOIN ayb_realtime.changes c ON c.xid = l.xid AND c.seq = l.seq;

    PERFORM set_config('role', client, true);
    BEGIN
        RETURN QUERY EXECUTE format(
            'SELECT 0, array_agg(u.n::integer) FROM ROWS FROM (unnest($1), unnest($2)) WITH ORDINALITY AS u (image, latest, n) '
            'WHERE row_to_json(json_populate_record(NULL::%1$s, u.image::json))::text '
            '= row_to_json(json_populate_record(NULL::%1$s, u.latest::json))::text', row_type) USING images, latest;
    EXCEPTION WHEN OTHERS THEN
        NULL;  -- an image that does not fit proves nothing
    END;
    FOR place IN 1 .. pg_catalog.cardinality(settings) OPERATOR(pg_catalog./) 4 LOOP
        BEGIN
            PERFORM pg_catalog.set_config('role', client, true),
                pg_catalog.set_config('search_path', path, true),
                pg_catalog.set_config('ayb.user_id', settings[4 OPERATOR(pg_catalog.*) place OPERATOR(pg_catalog.-) 3], true),
                pg_catalog.set_config('ayb.user_email', settings[4 OPERATOR(pg_catalog.*) place OPERATOR(pg_catalog.-) 2], true),
                pg_catalog.set_config('ayb.tenant_id', settings[4 OPERATOR(pg_catalog.*) place OPERATOR(pg_catalog.-) 1], true),
                pg_catalog.set_config('request.jwt.claims', settings[4 OPERATOR(pg_catalog.*) place], true);
            RETURN QUERY EXECUTE pg_catalog.format(
                'SELECT $2, pg_catalog.array_agg(asked_of.n::pg_catalog.int4) '
                'FROM pg_catalog.unnest($1) WITH ORDINALITY AS asked_of (image, n) '
                'CROSS JOIN LATERAL pg_catalog.json_populate_record(NULL::%1$s, asked_of.image::pg_catalog.json) AS asked '
                'JOIN %1$s AS now_there ON %2$s '
                'WHERE pg_catalog.row_to_json(now_there)::pg_catalog.text '
                'OPERATOR(pg_catalog.=) pg_catalog.row_to_json(asked)::pg_catalog.text',
                row_type, matches) USING images, place;
        EXCEPTION WHEN OTHERS THEN
            NULL;  -- nothing can be compared
        END;
    END LOOP;
    PERFORM pg_catalog.set_config('role', 'none', false);
END
$verify$;
