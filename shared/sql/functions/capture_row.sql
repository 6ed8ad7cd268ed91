-- Capture: row triggers, and one for TRUNCATE, that write to the outbox.
--
-- A trigger's name contains the OID of the table it was installed on. A partitioned table passes
-- its trigger on to its partitions under the same name. A partition that was captured on its own
-- before it was attached therefore has two triggers for a moment; the one with the root's OID
-- counts.
--
-- The argument computed is given on a table with generated columns that are not stored: NEW and OLD
-- do not have their values, so a query makes the image.
--
-- Waking the relay: a sleeping relay holds the advisory lock exclusively, so a writer's attempt to
-- share it fails and the writer sends a notification. A relay that is awake does not hold the lock:
-- writers share it until they commit, at no cost. docs/decisions/0002-wake-up-lock.md explains why
-- no wake-up is ever missed.
--
-- An image must not depend on the settings of the writer's session. Pinning them for each row costs
-- a writer more than the rest of this function (docs/decisions/0020-cost-of-capture.md), so an image
-- is made directly where each setting that affects JSON has a value that gives the same text as the
-- pinned one, and under pinned settings otherwise (pinned_images.sql). The search path is always
-- pinned. (pg_temp comes last: otherwise a writer's temporary type named json would run with the
-- relay's rights.)
--
-- The inner block catches whatever a value can raise while it is converted to JSON (a cast of a
-- user-defined type), so that capture never makes a writer fail; clients get a resync for a change
-- without an image. If no sequence number can be obtained, only the end of the sequence is caught
-- (see below). Any other error, such as a lock that the writer does not wait for, fails the writer,
-- as it would at the INSERT, because otherwise the gap would go unnoticed. Nothing is written
-- inside the block, so it uses no subtransaction ID.
--
-- An image that is larger than 8 MiB, or larger than Postgres can hold (1 GB), is reduced: see
-- reduced_image.sql.
--
-- If the outbox grows to twice its limit, because the relay is down or a transaction is in the way,
-- capture stops rather than fill the disk: the sequence is set to its end, and nextval raises until
-- the relay has made room. The size is checked every 1024 changes and after each large change. See
-- docs/decisions/0003-outbox-ring.md.
--
-- Each expression is set up once per transaction, which costs a writer of one row as much as its
-- evaluation: hence few and long ones. NEW is NULL for a DELETE, and OLD for an INSERT.
CREATE OR REPLACE FUNCTION ayb_realtime.capture_row() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $capture$
DECLARE
    root oid := coalesce(pg_partition_root(TG_RELID), TG_RELID);
    number bigint;
    new_image json;
    old_image json;
    images json[];
    is_reduced boolean;
    is_size_due boolean;
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
        IF TG_NARGS = 0
            AND current_setting('timezone') IN ('UTC', 'Etc/UTC')
            AND current_setting('datestyle') IN ('ISO, MDY', 'ISO, DMY', 'ISO, YMD')
            AND current_setting('intervalstyle') = 'postgres'
            AND current_setting('bytea_output') = 'hex'
            AND current_setting('extra_float_digits') IN ('1', '2', '3')
            AND current_setting('lc_monetary') IN
                ('C', 'POSIX', 'C.UTF-8', 'C.utf8', 'en_US.UTF-8', 'en_US.utf8')
        THEN
            new_image := row_to_json(NEW);
            old_image := row_to_json(OLD);
        ELSE
            images := ayb_realtime.pinned_images(TG_RELID, NEW, OLD, TG_NARGS > 0);
            new_image := images[1];
            old_image := images[2];
        END IF;
        IF number % 1024 = 0
            OR octet_length(new_image::text) > 100000 OR octet_length(old_image::text) > 100000
            OR images IS NULL AND (strpos(new_image::text, '[') > 0 AND strpos(NEW::text, ']={') > 0
                OR strpos(old_image::text, '[') > 0 AND strpos(OLD::text, ']={') > 0)
        THEN
            is_size_due := true;
            IF images IS NULL AND (strpos(NEW::text, ']={') > 0 OR strpos(OLD::text, ']={') > 0) THEN
                images := ayb_realtime.pinned_images(TG_RELID, NEW, OLD, true);
                new_image := images[1];
                old_image := images[2];
            END IF;
            IF octet_length(new_image::text) > 8388608 THEN
                is_reduced := true;
                new_image := ayb_realtime.reduced_image(TG_RELID, NEW);
            END IF;
            IF octet_length(old_image::text) > 8388608 THEN
                is_reduced := true;
                old_image := ayb_realtime.reduced_image(TG_RELID, OLD);
            END IF;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        IF number IS NULL THEN
            IF SQLSTATE = '2200H' THEN
                RETURN NULL;
            END IF;
            RAISE;
        END IF;
        is_size_due := number % 1024 = 0;
        new_image := NULL;
        old_image := NULL;
        IF SQLSTATE IN ('53200', '54000') THEN
            is_reduced := true;
            is_size_due := true;
            new_image := ayb_realtime.reduced_image(TG_RELID, NEW);
            old_image := ayb_realtime.reduced_image(TG_RELID, OLD);
        END IF;
    END;
    INSERT INTO ayb_realtime.changes (seq, relid, op, reduced, new, old)
    VALUES (number, root, left(TG_OP, 1)::"char", is_reduced IS NOT NULL, new_image, old_image);
    IF NOT pg_try_advisory_xact_lock_shared(4707185, 1) THEN
        NOTIFY ayb_realtime;
    END IF;
    IF is_size_due THEN
        PERFORM ayb_realtime.stop_when_full();
    END IF;
    RETURN NULL;
END
$capture$;
