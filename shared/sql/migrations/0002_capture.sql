-- Capture: row triggers (and one for TRUNCATE) that write to the outbox.
--
-- The name of a trigger carries the oid of the table it was installed on. A partitioned table hands
-- its trigger down to its partitions under that same name, so a partition that had been captured
-- by itself before it was attached has two for a moment: the one whose oid is the root's counts.
--
-- Waking the relay: a sleeping relay holds the advisory lock exclusively, so the shared try fails
-- and the writer notifies. An awake relay does not hold it: writers share it until their commit and
-- pay nothing. See docs/decisions/0002-wake-up-lock.md for why no wake-up is ever missed.
--
-- The SET clauses pin whatever the writer's session could bend in the JSON. The inner blocks catch
-- what a value may do to us while it becomes JSON (over 1 GB, a cast of a user-defined type that
-- raises), so that a writer never fails because of capture; a change without its image is told
-- to clients as resync.

CREATE FUNCTION ayb_realtime.capture_row() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = ''
    SET timezone = 'UTC'
    SET datestyle = 'ISO, MDY'
    SET intervalstyle = 'postgres'
    SET bytea_output = 'hex'
    SET extra_float_digits = 1
    SET lc_monetary = 'C'
AS $capture$
DECLARE
    root oid := coalesce(pg_catalog.pg_partition_root(TG_RELID), TG_RELID);
    new_image json;
    old_image json;
BEGIN
    IF TG_NAME OPERATOR(pg_catalog.<>) ('!ayb_realtime_row_' OPERATOR(pg_catalog.||) root::pg_catalog.text) THEN
        RETURN NULL;
    END IF;
    BEGIN
        IF TG_OP OPERATOR(pg_catalog.<>) 'DELETE' THEN
            new_image := pg_catalog.row_to_json(NEW);
        END IF;
        IF TG_OP OPERATOR(pg_catalog.<>) 'INSERT' THEN
            old_image := pg_catalog.row_to_json(OLD);
        END IF;
    EXCEPTION WHEN OTHERS THEN
        new_image := NULL;
        old_image := NULL;
    END;
    INSERT INTO ayb_realtime.changes (relid, op, new, old)
    VALUES (root, pg_catalog.left(TG_OP, 1)::"char", new_image, old_image);
    IF NOT pg_catalog.pg_try_advisory_xact_lock_shared(4707185, 1) THEN
        NOTIFY ayb_realtime;
    END IF;
    RETURN NULL;
END
$capture$;

CREATE FUNCTION ayb_realtime.capture_truncate() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = ''
AS $capture$
DECLARE
    root oid := coalesce(pg_catalog.pg_partition_root(TG_RELID), TG_RELID);
BEGIN
    INSERT INTO ayb_realtime.changes (relid, op) VALUES (root, 'T');
    IF NOT pg_catalog.pg_try_advisory_xact_lock_shared(4707185, 1) THEN
        NOTIFY ayb_realtime;
    END IF;
    RETURN NULL;
END
$capture$;

REVOKE ALL ON FUNCTION ayb_realtime.capture_row() FROM PUBLIC;
REVOKE ALL ON FUNCTION ayb_realtime.capture_truncate() FROM PUBLIC;

-- For tables with generated columns that are not stored (Postgres 18): a trigger gets a row without
-- them, so they are computed here. Their expressions hold no functions but built-in ones.
CREATE FUNCTION ayb_realtime.capture_row_computed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = ''
    SET timezone = 'UTC'
    SET datestyle = 'ISO, MDY'
    SET intervalstyle = 'postgres'
    SET bytea_output = 'hex'
    SET extra_float_digits = 1
    SET lc_monetary = 'C'
AS $capture$
DECLARE
    root oid := coalesce(pg_catalog.pg_partition_root(TG_RELID), TG_RELID);
    new_image json;
    old_image json;
    query text;
BEGIN
    IF TG_NAME OPERATOR(pg_catalog.<>) ('!ayb_realtime_row_' OPERATOR(pg_catalog.||) root::pg_catalog.text) THEN
        RETURN NULL;
    END IF;
    BEGIN
        SELECT pg_catalog.format('SELECT pg_catalog.row_to_json(image) FROM (SELECT %s FROM (SELECT ($1).*) AS source) AS image',
            pg_catalog.string_agg(
                CASE WHEN a.attgenerated OPERATOR(pg_catalog.=) 'v'
                THEN pg_catalog.format('(%s) AS %I', pg_catalog.pg_get_expr(d.adbin, d.adrelid), a.attname)
                ELSE pg_catalog.format('%I', a.attname) END,
                ', ' ORDER BY a.attnum))
        INTO query
        FROM pg_catalog.pg_attribute a
        LEFT JOIN pg_catalog.pg_attrdef d
            ON d.adrelid OPERATOR(pg_catalog.=) a.attrelid AND d.adnum OPERATOR(pg_catalog.=) a.attnum
        WHERE a.attrelid OPERATOR(pg_catalog.=) TG_RELID AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped;
        IF TG_OP OPERATOR(pg_catalog.<>) 'DELETE' THEN
            EXECUTE query INTO new_image USING NEW;
        END IF;
        IF TG_OP OPERATOR(pg_catalog.<>) 'INSERT' THEN
            EXECUTE query INTO old_image USING OLD;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        new_image := NULL;
        old_image := NULL;
    END;
    INSERT INTO ayb_realtime.changes (relid, op, new, old)
    VALUES (root, pg_catalog.left(TG_OP, 1)::"char", new_image, old_image);
    IF NOT pg_catalog.pg_try_advisory_xact_lock_shared(4707185, 1) THEN
        NOTIFY ayb_realtime;
    END IF;
    RETURN NULL;
END
$capture$;

REVOKE ALL ON FUNCTION ayb_realtime.capture_row_computed() FROM PUBLIC;
