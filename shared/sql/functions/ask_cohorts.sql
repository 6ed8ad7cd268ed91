-- Run a statement once for each cohort, with no cohort affecting another: see ask_cohort.
-- For `settings` see assume_client. `template` becomes a statement about some of the images when
-- their numbers (%1$L), rows (%2$L) and keys (%3$L) are filled in. If a cohort's statement about all images raises, each image is asked about separately, so that an
-- error caused by one image affects only that image.
--
-- Returns a row for each cohort (numbered from 1) that sees anything or fails: the visible and the
-- superseded images, and the SQLSTATE of an error. If the time ran out, a last row with cohort 0
-- gives the cohort to continue with.
CREATE OR REPLACE FUNCTION ayb_realtime.ask_cohorts(
    client text, settings bytea[], own text[], is_own_first boolean, template text,
    numbers integer[], images text[], keys text[], deadline timestamptz, lenient boolean
) RETURNS TABLE (cohort integer, visible integer[], superseded integer[], failure text, next_cohort integer)
    LANGUAGE plpgsql VOLATILE
AS $ask$
DECLARE
    most_failures constant integer := 100;
    has_stale_plans constant boolean := ayb_realtime.keeps_plans_of_settings();
    whole constant text := format(template, numbers, images, keys);
    answer record;
    failures integer;
    is_over boolean := false;
BEGIN
    FOR place IN 1 .. array_length(settings, 1) - 1 LOOP
        -- At least one cohort per call: otherwise, if preparation used up all the time, no cohort
        -- would ever be asked.
        IF is_over OR (place > 1 AND clock_timestamp() > deadline) THEN
            cohort := 0;
            visible := NULL;
            superseded := NULL;
            failure := NULL;
            next_cohort := place;
            RETURN NEXT;
            RETURN;
        END IF;
        IF has_stale_plans THEN
            EXECUTE 'DISCARD PLANS';
        END IF;
        cohort := place;
        SELECT * INTO answer FROM ayb_realtime.ask_cohort(
            client, settings, place, own, is_own_first, whole, lenient);
        visible := answer.visible;
        superseded := answer.superseded;
        failure := answer.failure;
        is_over := answer.is_over;
        failures := 0;
        IF failure IS NOT NULL AND cardinality(numbers) > 1 THEN
            FOR part IN 1 .. cardinality(numbers) LOOP
                EXIT WHEN is_over OR failures = most_failures;
                SELECT * INTO answer FROM ayb_realtime.ask_cohort(
                    client, settings, place, own, is_own_first,
                    format(template, numbers[part : part], images[part : part], keys[part : part]), lenient);
                visible := visible || answer.visible;
                superseded := superseded || answer.superseded;
                is_over := answer.is_over;
                failures := CASE WHEN answer.failure IS NULL THEN 0 ELSE failures + 1 END;
            END LOOP;
        END IF;
        IF visible IS NOT NULL OR superseded IS NOT NULL OR failure IS NOT NULL THEN
            RETURN NEXT;
        END IF;
    END LOOP;
END
$ask$;
