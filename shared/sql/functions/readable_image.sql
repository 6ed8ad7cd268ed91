-- A row image, or only its key columns if a key is given, in UTF-8. NULL if the image raises any
-- error: an error in one image must not affect the other images read with it.
CREATE OR REPLACE FUNCTION ayb_realtime.readable_image(image json, key text[]) RETURNS bytea
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $readable$
BEGIN
    IF key IS NULL THEN
        RETURN convert_to(image::text, 'UTF8');
    END IF;
    RETURN convert_to(ayb_realtime.key_image(image, key), 'UTF8');
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END
$readable$;
