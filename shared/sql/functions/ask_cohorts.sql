-- Run a statement once for each cohort, with no cohort affecting another: see ask_cohort.
-- For `settings` see assume_client. `statement` returns the images that a cohort sees. If it raises,
-- each image is asked about separately.
--
-- If a statement `compared` is given, the images are compared with the rows as they are now. What a
-- row contains is the same for all cohorts, so each image is compared once, under the first cohort
-- that sees its row: `compared` returns the images that are the same as their rows, and the others.
-- A row that cannot be written (its type has a cast to json that raises) is not the same as any
-- image, which says nothing about the cohort's policies. An image that could not be compared for
-- lack of time is visible to no one.
--
-- Returns a row for each cohort (numbered from 1) that sees anything or fails: the images whose
-- rows it sees, and the SQLSTATE of an error. A last row with cohort 0 gives the superseded images,
-- which are not the same as their rows, the seconds that each cohort took, in their order, and the
-- cohort to continue with if the time ran out.
--
-- If `is_own_first` is true, the session's own settings are put in force before any statement is
-- parsed, and stay in force (except the search path) on return: pin them again. From then on every
-- name here is qualified. STABLE: a change committed between two cohorts is seen for both or for
-- neither.
CREATE OR REPLACE FUNCTION ayb_realtime.ask_cohorts(
    client text, settings bytea[], own text[], is_own_first boolean, statement text, compared text,
    numbers integer[], images text[], keys text[], deadline timestamptz, lenient boolean
) RETURNS TABLE (
    cohort integer, visible integer[], superseded integer[], failure text, next_cohort integer, costs real[]
)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $ask$
DECLARE
    total constant integer := cardinality(images);
    -- Large arrays are copied for each statement.
    judged constant text[] := CASE WHEN compared IS NULL THEN images END;
    has_stale_plans constant boolean := ayb_realtime.keeps_plans_of_settings();
    is_unknown boolean[] := array_fill(true, ARRAY[total]);
    answer record;
    comparison record;
    unknown integer[];
    changed integer[] := '{}';
    image integer;
    is_over boolean := false;
    began timestamptz := pg_catalog.clock_timestamp();
    spent real[] := '{}';
BEGIN
    IF is_own_first THEN
        PERFORM ayb_realtime.restore_session(own);
    END IF;
    FOR place IN 1 .. pg_catalog.array_length(settings, 1) OPERATOR(pg_catalog.-) 1 LOOP
        -- At least one cohort per call: otherwise, if preparation used up all the time, no cohort
        -- would ever be asked.
        IF is_over OR (place OPERATOR(pg_catalog.>) 1
            AND pg_catalog.clock_timestamp() OPERATOR(pg_catalog.>) deadline) THEN
            next_cohort := place;
            EXIT;
        END IF;
        IF has_stale_plans THEN
            PERFORM ayb_realtime.discard_plans();
        END IF;
        answer := ayb_realtime.ask_cohort(client, settings, place, own, statement, numbers, judged, keys, lenient);
        visible := answer.visible;
        failure := answer.failure;
        is_over := answer.is_over;
        IF failure IS NOT NULL AND NOT is_over AND pg_catalog.cardinality(numbers) OPERATOR(pg_catalog.>) 1 THEN
            answer := ayb_realtime.ask_about_each(
                client, settings, place, own, statement, numbers, judged, keys, total, lenient);
            visible := answer.visible;
            is_over := answer.is_over;
        END IF;
        IF compared IS NOT NULL AND visible IS NOT NULL THEN
            unknown := NULL;
            FOREACH image IN ARRAY visible LOOP
                IF is_unknown[image] THEN
                    unknown := unknown OPERATOR(pg_catalog.||) image;
                END IF;
            END LOOP;
            IF unknown IS NOT NULL THEN
                comparison := ayb_realtime.ask_cohort(
                    client, settings, place, own, compared, unknown, images, keys, lenient);
                is_over := is_over OR comparison.is_over;
                IF comparison.failure IS NOT NULL THEN
                    IF NOT is_over THEN
                        comparison := ayb_realtime.ask_about_each(
                            client, settings, place, own, compared, unknown, images, keys, total, lenient);
                        is_over := comparison.is_over;
                    END IF;
                    IF is_over THEN
                        failure := '57014';
                    ELSE
                        comparison.superseded := ARRAY(
                            SELECT v.n FROM pg_catalog.unnest(unknown) AS v (n)
                            WHERE NOT coalesce(v.n OPERATOR(pg_catalog.=) ANY (comparison.visible), false));
                    END IF;
                END IF;
                changed := changed OPERATOR(pg_catalog.||) comparison.superseded;
                FOREACH image IN ARRAY coalesce(
                    pg_catalog.array_cat(comparison.visible, comparison.superseded), '{}') LOOP
                    is_unknown[image] := false;
                END LOOP;
                visible := ARRAY(SELECT v.n FROM pg_catalog.unnest(visible) AS v (n) WHERE NOT is_unknown[v.n]);
            END IF;
        END IF;
        IF visible IS NOT NULL OR failure IS NOT NULL THEN
            cohort := place;
            RETURN NEXT;
        END IF;
        spent := spent OPERATOR(pg_catalog.||)
            extract(epoch FROM pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) began)::real;
        began := pg_catalog.clock_timestamp();
    END LOOP;
    cohort := 0;
    visible := NULL;
    superseded := changed;
    failure := NULL;
    costs := spent;
    RETURN NEXT;
END
$ask$;
