-- Ask a cohort about each image separately, after a statement about all of them has raised: an
-- error caused by one image then affects only that image. See ask_cohort. Gives up after a hundred
-- images in a row that raise. `total` is the number of all images that `keys` has keys of.
CREATE OR REPLACE FUNCTION ayb_realtime.ask_about_each(
    client text, settings bytea[], cohort integer, own text[], statement text,
    numbers integer[], images text[], keys text[], total integer, lenient boolean,
    OUT visible integer[], OUT superseded integer[], OUT is_over boolean
)
    LANGUAGE plpgsql STABLE
AS $each$
DECLARE
    most_failures constant integer := 100;
    answer pg_catalog.record;
    failures integer := 0;
    image integer;
BEGIN
    is_over := false;
    FOREACH image IN ARRAY numbers LOOP
        -- Without the other keys, so that no policy is evaluated on another row.
        answer := ayb_realtime.ask_cohort(
            client, settings, cohort, own, statement, ARRAY[image], images, ARRAY(
                SELECT CASE WHEN ((k.n OPERATOR(pg_catalog.-) image) OPERATOR(pg_catalog.%) total)
                    OPERATOR(pg_catalog.=) 0 THEN k.value END
                FROM pg_catalog.unnest(keys) WITH ORDINALITY AS k (value, n) ORDER BY k.n), lenient);
        visible := visible OPERATOR(pg_catalog.||) answer.visible;
        superseded := superseded OPERATOR(pg_catalog.||) answer.superseded;
        is_over := answer.is_over;
        failures := CASE WHEN answer.failure IS NULL THEN 0 ELSE failures OPERATOR(pg_catalog.+) 1 END;
        EXIT WHEN is_over OR failures OPERATOR(pg_catalog.=) most_failures;
    END LOOP;
END
$each$;
