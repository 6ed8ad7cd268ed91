-- The number of the images (from 1) that lack a column that policies read, or in which it is in doubt.
CREATE OR REPLACE FUNCTION ayb_realtime.unfit_images(facts json, images text[]) RETURNS integer[]
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $unfit$
    SELECT coalesce(array_agg(u.n::integer ORDER BY u.n), '{}')
    FROM unnest(images) WITH ORDINALITY AS u (image, n)
    WHERE EXISTS (
        SELECT
        FROM json_array_elements(CASE json_typeof(facts -> 'needs') WHEN 'array' THEN facts -> 'needs' ELSE '[]' END) AS t (need)
        CROSS JOIN LATERAL (SELECT (u.image::json -> (need ->> 0))::text) AS v (value)
        WHERE v.value IS NULL
        OR need ->> 1 = 'all'
        OR (need ->> 1 <> 'no' AND v.value = 'null')
        OR (need ->> 1 = 'any' AND strpos(v.value, 'null') > 0)
    );
$unfit$;
