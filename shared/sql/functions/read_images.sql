-- Convert images to rows of a table, under a client's role. Returns each row as text, or NULL for
-- an image that does not fit the table as it is now. Whatever a domain's check does to the session
-- is undone.
CREATE OR REPLACE FUNCTION ayb_realtime.read_images(client text, row_type text, images text[], lenient boolean)
RETURNS text[]
    LANGUAGE plpgsql VOLATILE
AS $read$
DECLARE
    foreign_classes constant pg_catalog.text[] := '{08,40,53,57,58,XX}';
    read pg_catalog.text[];
    is_answered boolean := false;
BEGIN
    IF cardinality(images) = 0 THEN
        RETURN images;
    END IF;
    BEGIN
        PERFORM set_config('role', client, true);
        EXECUTE format(
            'SELECT array_agg(json_populate_record(NULL::%s, u.image::json)::text ORDER BY u.n) '
            'FROM unnest($1) WITH ORDINALITY AS u (image, n)', row_type) INTO read USING images;
        is_answered := true;
        RAISE SQLSTATE 'AYB02';
    EXCEPTION WHEN OTHERS OR assert_failure THEN
        IF NOT is_answered AND NOT lenient AND left(SQLSTATE, 2) = ANY (foreign_classes) THEN
            RAISE;
        END IF;
    END;
    IF is_answered THEN
        RETURN read;
    ELSIF cardinality(images) = 1 THEN
        RETURN ARRAY[NULL::text];
    END IF;
    read := '{}';
    FOR place IN 1 .. cardinality(images) LOOP
        read := read || ayb_realtime.read_images(client, row_type, images[place : place], lenient);
    END LOOP;
    RETURN read;
END
$read$;
