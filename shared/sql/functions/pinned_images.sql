-- The images of a change, [new, old], under pinned settings: every setting of the writer's session
-- that affects the JSON has the value it has for all writers. A row that is NULL has no image. If
-- is_computed, row_to_json alone cannot make the images: see image_query.sql.
CREATE OR REPLACE FUNCTION ayb_realtime.pinned_images(
    table_oid oid, new_row record, old_row record, is_computed boolean
) RETURNS json[]
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO, MDY'
    SET intervalstyle = 'postgres'
    SET bytea_output = 'hex'
    SET extra_float_digits = 1
    SET lc_monetary = 'C'
AS $pinned$
DECLARE
    new_image json;
    old_image json;
BEGIN
    IF NOT is_computed THEN
        new_image := row_to_json(new_row);
        old_image := row_to_json(old_row);
    END IF;
    IF new_row IS DISTINCT FROM NULL AND (is_computed
        OR (strpos(new_image::text, '[') > 0 AND strpos(new_row::text, ']={') > 0))
    THEN
        EXECUTE ayb_realtime.image_query(table_oid) INTO new_image USING new_row;
    END IF;
    IF old_row IS DISTINCT FROM NULL AND (is_computed
        OR (strpos(old_image::text, '[') > 0 AND strpos(old_row::text, ']={') > 0))
    THEN
        EXECUTE ayb_realtime.image_query(table_oid) INTO old_image USING old_row;
    END IF;
    RETURN ARRAY[new_image, old_image];
END
$pinned$;
