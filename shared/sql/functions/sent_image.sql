-- A row image as it is sent: in UTF-8, and cut to the key if it is truncated. If lenient, an image
-- that raises an error is NULL (readable_image); this costs a subtransaction for each image.
CREATE OR REPLACE FUNCTION ayb_realtime.sent_image(
    image json, key text[], is_truncated boolean, lenient boolean
) RETURNS bytea
    LANGUAGE sql STABLE
RETURN CASE
    WHEN lenient THEN
        ayb_realtime.readable_image(image, CASE WHEN is_truncated THEN coalesce(key, '{}') END)
    WHEN is_truncated THEN convert_to(ayb_realtime.key_image(image, key), 'UTF8')
    ELSE convert_to(image::text, 'UTF8')
END;
