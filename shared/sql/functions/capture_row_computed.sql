-- For tables with generated columns that are not stored.
CREATE OR REPLACE FUNCTION ayb_realtime.capture_row_computed() RETURNS trigger
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
    is_reduced boolean := false;
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
        IF octet_length(new_image::text) > 8388608 THEN
            is_reduced := true;
            new_image := ayb_realtime.reduced_image(TG_RELID, NEW);
        END IF;
        IF octet_length(old_image::text) > 8388608 THEN
            is_reduced := true;
            old_image := ayb_realtime.reduced_image(TG_RELID, OLD);
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
        IF SQLSTATE IN ('53200', '54000') THEN
            is_reduced := true;
            IF TG_OP <> 'DELETE' THEN
                new_image := ayb_realtime.reduced_image(TG_RELID, NEW);
            END IF;
            IF TG_OP <> 'INSERT' THEN
                old_image := ayb_realtime.reduced_image(TG_RELID, OLD);
            END IF;
        END IF;
    END;
    INSERT INTO ayb_realtime.changes (seq, relid, op, reduced, new, old)
    VALUES (number, root, left(TG_OP, 1)::"char", is_reduced, new_image, old_image);
    IF NOT pg_try_advisory_xact_lock_shared(4707185, 1) THEN
        NOTIFY ayb_realtime;
    END IF;
    IF number % 1024 = 0 OR octet_length(coalesce(new_image, old_image)::text) > 100000 THEN
        PERFORM ayb_realtime.stop_when_full();
    END IF;
    RETURN NULL;
END
$capture$;
