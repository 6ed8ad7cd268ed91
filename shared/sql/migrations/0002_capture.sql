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
-- The SET clauses pin whatever the writer's session could bend in the JSON (pg_temp last, or a
-- writer's temporary type named json would run with the relay's rights). The inner blocks catch
-- what a value may do to us while it becomes JSON (over 1 GB, a cast of a user-defined type that
-- raises), so that a writer never fails because of capture; a change without its image is told
-- to clients as resync. Where no number can be had, only the end of the sequence is caught (see
-- below): what else stands in the way, such as a lock that the writer does not wait for, fails the
-- writer as it would at the insert, or there would be a gap that nobody knows of. Nothing is written
-- inside of the blocks: they cost no subtransaction id.
--
-- Where the outbox has grown to twice its bound, since the relay is down or a transaction is in the
-- way, capture stops rather than fill the disk: the sequence is set to its end, and nextval raises
-- until the relay has made room. The size is looked at every 1024 changes, and with each large one.
-- See docs/decisions/0003-outbox-ring.md.

CREATE FUNCTION ayb_realtime.stop_when_full() RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $stop$
    SELECT setval('ayb_realtime.change_seq', 9223372036854775807)
    FROM ayb_realtime.horizon h
    WHERE h.most_bytes < ayb_realtime.outbox_bytes() / 2
$stop$;

-- The query that makes the image of a row ($1) where row_to_json alone would not do:
--
-- * Generated columns that are not stored (Postgres 18) are missing in a trigger's row, so they are
--   computed. Their expressions hold no functions but built-in ones.
-- * JSON has no place for the bounds of an array whose subscripts do not begin at 1. A policy that
--   reads such an array would be asked about other elements. So it, and a composite that holds one,
--   becomes a string, as Postgres prints it, from which it is read back whole.
CREATE FUNCTION ayb_realtime.image_query(table_oid oid) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $query$
    SELECT format(
        'SELECT row_to_json(image) FROM (SELECT %s FROM '
        '(SELECT %s FROM (SELECT ($1).*) AS source) AS source) AS image',
        string_agg(
            CASE WHEN t.typcategory IN ('A', 'C') THEN format(
                'CASE WHEN %2$s THEN to_json(format(''%%s'', %1$I)) ELSE to_json(%1$I) END AS %1$I',
                a.attname,
                CASE WHEN t.typcategory = 'C' OR e.typtype = 'c'
                THEN format('strpos(format(''%%s'', %I), '']={'') > 0', a.attname)
                ELSE format('left(format(''%%s'', %I), 1) = ''[''', a.attname) END
            ) ELSE format('%I', a.attname) END, ', ' ORDER BY a.attnum),
        string_agg(
            CASE WHEN a.attgenerated = 'v'
            THEN format('(%s) AS %I', pg_get_expr(d.adbin, d.adrelid), a.attname)
            ELSE format('%I', a.attname) END, ', ' ORDER BY a.attnum))
    FROM pg_attribute a
    JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_type e ON e.oid = t.typelem
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = table_oid AND a.attnum > 0 AND NOT a.attisdropped
$query$;

-- While a partition is detached CONCURRENTLY, its root counts as gone, but transactions with an older
-- snapshot still write through it, and the root's trigger is still there: that one counts on. This
-- names the root, if table_oid is such a partition (or lies beneath one) and has no trigger of now_root,
-- which it belongs to by now. An ancestor that is no more one is told by the catalog's own rows.
CREATE FUNCTION ayb_realtime.detaching_root(table_oid oid, now_root oid) RETURNS oid
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $root$
    WITH RECURSIVE above (oid, height) AS (
        SELECT table_oid, 0
        UNION ALL
        SELECT i.inhparent, a.height + 1 FROM above a JOIN pg_inherits i ON i.inhrelid = a.oid
    )
    SELECT a.oid
    FROM above a
    JOIN pg_trigger g ON g.tgrelid = table_oid AND g.tgname = '!ayb_realtime_row_' || a.oid
    WHERE a.oid NOT IN (SELECT p.relid FROM pg_partition_ancestors(table_oid) p)
    AND NOT EXISTS (
        SELECT FROM pg_trigger n
        WHERE n.tgrelid = table_oid AND n.tgname = '!ayb_realtime_row_' || now_root
    )
    ORDER BY a.height DESC
    LIMIT 1
$root$;

CREATE FUNCTION ayb_realtime.capture_row() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO, MDY'
    SET intervalstyle = 'postgres'
    SET bytea_output = 'hex'
    SET extra_float_digits = 1
    SET lc_monetary = 'C'
AS $capture$
DECLARE
    root oid := coalesce(pg_partition_root(TG_RELID), TG_RELID);
    number bigint;
    new_image json;
    old_image json;
BEGIN
    IF TG_NAME <> '!ayb_realtime_row_' || root::text THEN
        IF TG_NAME = '!ayb_realtime_row_' || TG_RELID::text THEN
            RETURN NULL;
        END IF;
        root := ayb_realtime.detaching_root(TG_RELID, root);
        IF root IS NULL OR TG_NAME <> '!ayb_realtime_row_' || root::text THEN
            RETURN NULL;
        END IF;
    END IF;
    BEGIN
        number := nextval('ayb_realtime.change_seq');
        IF TG_OP <> 'DELETE' THEN
            new_image := row_to_json(NEW);
            IF strpos(new_image::text, '[') > 0 AND strpos(NEW::text, ']={') > 0 THEN
                EXECUTE ayb_realtime.image_query(TG_RELID) INTO new_image USING NEW;
            END IF;
        END IF;
        IF TG_OP <> 'INSERT' THEN
            old_image := row_to_json(OLD);
            IF strpos(old_image::text, '[') > 0 AND strpos(OLD::text, ']={') > 0 THEN
                EXECUTE ayb_realtime.image_query(TG_RELID) INTO old_image USING OLD;
            END IF;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        IF number IS NULL THEN
            IF SQLSTATE = '2200H' THEN
                RETURN NULL;
            END IF;
            RAISE;
        END IF;
        new_image := NULL;
        old_image := NULL;
    END;
    INSERT INTO ayb_realtime.changes (seq, relid, op, new, old)
    VALUES (number, root, left(TG_OP, 1)::"char", new_image, old_image);
    IF NOT pg_try_advisory_xact_lock_shared(4707185, 1) THEN
        NOTIFY ayb_realtime;
    END IF;
    IF number % 1024 = 0 OR octet_length(coalesce(new_image, old_image)::text) > 100000 THEN
        PERFORM ayb_realtime.stop_when_full();
    END IF;
    RETURN NULL;
END
$capture$;

-- For tables with generated columns that are not stored.
CREATE FUNCTION ayb_realtime.capture_row_computed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO, MDY'
    SET intervalstyle = 'postgres'
    SET bytea_output = 'hex'
    SET extra_float_digits = 1
    SET lc_monetary = 'C'
AS $capture$
DECLARE
    root oid := coalesce(pg_partition_root(TG_RELID), TG_RELID);
    number bigint;
    new_image json;
    old_image json;
    query text;
BEGIN
    IF TG_NAME <> '!ayb_realtime_row_' || root::text THEN
        IF TG_NAME = '!ayb_realtime_row_' || TG_RELID::text THEN
            RETURN NULL;
        END IF;
        root := ayb_realtime.detaching_root(TG_RELID, root);
        IF root IS NULL OR TG_NAME <> '!ayb_realtime_row_' || root::text THEN
            RETURN NULL;
        END IF;
    END IF;
    BEGIN
        number := nextval('ayb_realtime.change_seq');
        query := ayb_realtime.image_query(TG_RELID);
        IF TG_OP <> 'DELETE' THEN
            EXECUTE query INTO new_image USING NEW;
        END IF;
        IF TG_OP <> 'INSERT' THEN
            EXECUTE query INTO old_image USING OLD;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        IF number IS NULL THEN
            IF SQLSTATE = '2200H' THEN
                RETURN NULL;
            END IF;
            RAISE;
        END IF;
        new_image := NULL;
        old_image := NULL;
    END;
    INSERT INTO ayb_realtime.changes (seq, relid, op, new, old)
    VALUES (number, root, left(TG_OP, 1)::"char", new_image, old_image);
    IF NOT pg_try_advisory_xact_lock_shared(4707185, 1) THEN
        NOTIFY ayb_realtime;
    END IF;
    IF number % 1024 = 0 OR octet_length(coalesce(new_image, old_image)::text) > 100000 THEN
        PERFORM ayb_realtime.stop_when_full();
    END IF;
    RETURN NULL;
END
$capture$;

CREATE FUNCTION ayb_realtime.capture_truncate() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $capture$
DECLARE
    root oid := coalesce(pg_partition_root(TG_RELID), TG_RELID);
    number bigint;
BEGIN
    IF TG_NAME <> '!ayb_realtime_truncate_' || root::text THEN
        RETURN NULL;
    END IF;
    BEGIN
        number := nextval('ayb_realtime.change_seq');
    EXCEPTION WHEN sequence_generator_limit_exceeded THEN
        RETURN NULL;
    END;
    INSERT INTO ayb_realtime.changes (seq, relid, op) VALUES (number, root, 'T');
    IF NOT pg_try_advisory_xact_lock_shared(4707185, 1) THEN
        NOTIFY ayb_realtime;
    END IF;
    RETURN NULL;
END
$capture$;

-- Nobody needs to call these: a trigger fires without a right to its function. What the gateway's
-- login gets by default privileges on functions is for those that judge. Else whoever has that login
-- could put a capture trigger on a table of its own and fill the outbox.
DO $revoke$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT p.oid::regprocedure AS name, a.grantee
        FROM pg_proc AS p
        CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a
        WHERE p.pronamespace = 'ayb_realtime'::regnamespace AND p.prosecdef AND a.grantee <> p.proowner
    LOOP
        EXECUTE format(
            'REVOKE ALL ON FUNCTION %s FROM %s', granted.name,
            CASE granted.grantee WHEN 0 THEN 'PUBLIC' ELSE granted.grantee::regrole::text END);
    END LOOP;
END
$revoke$;
