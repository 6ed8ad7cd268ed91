-- The key columns of a row image, each value exactly as it is written there. The whole image is
-- parsed, so this raises an error for text that Postgres stores as json but cannot parse again
-- (\u0000, for example).
CREATE OR REPLACE FUNCTION ayb_realtime.key_image(image json, key text[]) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (
    SELECT '{' || coalesce(string_agg(to_json(k.name)::text || ':' || (image -> k.name)::text, ','
        ORDER BY k.place) FILTER (WHERE (image -> k.name) IS NOT NULL), '') || '}'
    FROM unnest(key) WITH ORDINALITY AS k (name, place)
);
