-- The opaque form: each cohort runs a real SELECT for the rows that have the images' keys, and each
-- image is compared with its row once: see ask_cohorts. Returns the same kinds of row as
-- judge_looped; in the row with cohort 0, `superseded` are the images whose row has changed since,
-- so that they are visible to no one. Such an image cannot be judged if the outbox has no later
-- change of its row: the row is now written differently, and no later event may follow. `seqs` are
-- the images' changes, NULL where no later change is to be looked for; `key` names the key's
-- columns. Policies, functions and statements run under the session's own settings, as they would
-- for a real client.
-- See gateway/visibility/opaque.py.
CREATE OR REPLACE FUNCTION ayb_realtime.judge_opaque(
    after_lsn pg_lsn, table_oid oid, client text, expected text, statement text, compared text,
    settings bytea[], images text[], key text[],
    keys text[], seqs bigint[], budget interval, lenient boolean
) RETURNS TABLE (
    cohort integer, visible integer[], superseded integer[], failure text, next_cohort integer, costs real[]
)
    LANGUAGE plpgsql VOLATILE
AS $judge$
DECLARE
    own constant pg_catalog.text[] := ayb_realtime.pin_session();
BEGIN
    PERFORM ayb_realtime.catch_up(after_lsn);
    IF cardinality(images) > 0 THEN
        FOR cohort, visible, superseded, failure, next_cohort, costs IN
            SELECT * FROM ayb_realtime.ask_cohorts(
                client, settings, own, true, statement, compared,
                ARRAY(SELECT generate_series(1, cardinality(images))), images, keys,
                clock_timestamp() + budget, lenient)
        LOOP
            -- The last row has what is kept beyond the loop.
            IF cohort > 0 THEN
                RETURN NEXT;
            END IF;
        END LOOP;
        -- ask_cohorts has left the session's own settings in force.
        PERFORM ayb_realtime.pin_session();
    END IF;
    RETURN QUERY SELECT * FROM ayb_realtime.last_row(table_oid, client, expected, NULL, ARRAY(
        SELECT c.n FROM unnest(superseded) AS c (n) WHERE seqs[c.n] IS NOT NULL
        EXCEPT SELECT ayb_realtime.later_changes(table_oid, key, superseded, keys, seqs)
    ), superseded, next_cohort, costs);
END
$judge$;
