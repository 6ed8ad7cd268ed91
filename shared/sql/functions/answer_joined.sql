-- The part of judge_joined that runs in one snapshot: it computes the cohorts' values and asks the
-- question that joins them with the images. Because it is STABLE, it sees what the calling
-- statement sees: a change committed between two cohorts is seen for both or for neither.
CREATE OR REPLACE FUNCTION ayb_realtime.answer_joined(
    client text, own text[], question text, kept text[], computed text, keys text, settings bytea[], images text[]
) RETURNS TABLE (kind integer, events integer[], cohorts integer[])
    LANGUAGE plpgsql STABLE
AS $answer_joined$
DECLARE
    found pg_catalog.text[];
    limits pg_catalog.text[];
    place integer;
BEGIN
    IF computed IS NOT NULL THEN
        IF keys IS NOT NULL THEN
            PERFORM set_config('role', client, true);
            EXECUTE keys INTO limits USING images;
            PERFORM set_config('role', 'none', true);
        END IF;
        found := ayb_realtime.cohort_values(client, own, computed, limits, settings);
        -- cohort_values has left the session's own settings in force.
        PERFORM ayb_realtime.pin_session();
    END IF;
    -- Policies convert values to text, and handle dates and times, under the session's own
    -- settings. Everything that affects how images and the question are read stays pinned.
    FOR place IN 1 .. cardinality(own) BY 2 LOOP
        IF own[place] IN ('TimeZone', 'DateStyle', 'IntervalStyle', 'extra_float_digits', 'bytea_output') THEN
            PERFORM set_config(own[place], own[place + 1], true);
        END IF;
    END LOOP;
    PERFORM set_config('role', client, true);
    RETURN QUERY EXECUTE question USING kept, found, images, limits;
END
$answer_joined$;
