-- The looped form: each cohort is asked separately, about images that are converted to rows of the
-- table once. Rows:
--
--   cohort > 0   visible: the images (from 1) that it sees; failure: the SQLSTATE of an error, in
--                which case the images are those that were decided without an error
--   cohort = 0   once, last; visible: the images that cannot be judged; next_cohort: the cohort to
--                continue with, if the time ran out; costs: the seconds that each cohort took
--   cohort = -1  the rules have changed in the meantime, or are not the expected ones (a digest)
--   cohort = -2  something that the policies call has read the table itself, so an old image would be
--                judged by the table's current rows
--
-- With the last two, the caller must discard the other rows.
--
-- The statement's names are resolved as they were written, with only pg_catalog in the search path,
-- so no object created later can capture one. All else that policies depend on is as the session has
-- it, as in answer_joined. See gateway/visibility/looped.py.
CREATE OR REPLACE FUNCTION ayb_realtime.judge_looped(
    after_lsn pg_lsn, table_oid oid, client text, expected text, row_type text, statement text,
    settings bytea[], images text[], budget interval, lenient boolean
) RETURNS TABLE (
    cohort integer, visible integer[], superseded integer[], failure text, next_cohort integer, costs real[]
)
    LANGUAGE plpgsql VOLATILE
AS $judge$
DECLARE
    own constant pg_catalog.text[] := ayb_realtime.pin_session();
    deadline pg_catalog.timestamptz;
    rows_ pg_catalog.text[];
    unread integer[];
    numbers integer[];
    scans bigint;
BEGIN
    PERFORM ayb_realtime.catch_up(after_lsn);
    deadline := clock_timestamp() + budget;
    IF md5(ayb_realtime.rules(table_oid, client)::text) IS DISTINCT FROM expected THEN
        cohort := -1;
        RETURN NEXT;
        RETURN;
    END IF;
    scans := ayb_realtime.scans_of(table_oid);
    rows_ := ayb_realtime.read_images(client, row_type, images, lenient);
    SELECT array_agg(u.n::integer ORDER BY u.n) FILTER (WHERE u.row_ IS NOT NULL),
        coalesce(array_agg(u.n::integer ORDER BY u.n) FILTER (WHERE u.row_ IS NULL), '{}')
    INTO numbers, unread
    FROM unnest(rows_) WITH ORDINALITY AS u (row_, n);
    IF numbers IS NOT NULL THEN
        -- What Postgres computes while it plans a cohort's statement depends on these, too.
        FOR place IN 1 .. cardinality(own) BY 2 LOOP
            IF own[place] IN ('TimeZone', 'DateStyle', 'IntervalStyle', 'extra_float_digits', 'bytea_output') THEN
                PERFORM set_config(own[place], own[place + 1], true);
            END IF;
        END LOOP;
        FOR cohort, visible, superseded, failure, next_cohort, costs IN
            SELECT * FROM ayb_realtime.ask_cohorts(
                client, settings, own, false, statement, NULL, numbers, rows_, NULL, deadline, lenient)
        LOOP
            -- The last row has what is kept beyond the loop.
            IF cohort > 0 THEN
                RETURN NEXT;
            END IF;
        END LOOP;
    END IF;
    RETURN QUERY SELECT * FROM ayb_realtime.last_row(
        table_oid, client, expected, scans, unread, NULL, next_cohort, costs);
END
$judge$;
