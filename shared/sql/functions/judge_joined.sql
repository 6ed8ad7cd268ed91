-- Visibility: what a client role may read of a table, and which row images which cohort may see.
--
-- The functions are called by the gateway's login and run with its rights (SECURITY INVOKER). They
-- take the client's role themselves, for the rest of the transaction, which is that one statement:
-- one round trip, and nothing stays behind in the session. Being volatile, each of their inner
-- statements has a fresh snapshot, so what follows the wait for a replica sees what was waited for.
-- docs/decisions/0005-visibility.md tells why it is built this way.

-- The joined form: the question, a SELECT that the gateway wrote from the rules, is asked once for
-- all cohorts. `kept` are values that the gateway knows for groups of cohorts. Where `computed`, a
-- query, is given, it is asked for each cohort by itself first (see cohort_values): `settings` has
-- four for each, as UTF-8: user id, e-mail address, tenant id, claims. `keys` is a query for what it
-- is limited by, of the images. `others` are names and values
-- in turn of further settings, which the kept values were computed under: another value raises AYB03.
--
-- A row of kind -1 says that the rules are no longer those expected, one of kind -2 that what the
-- policies call has read the table itself: an image of then would be judged by the rows of now. In
-- both cases the rest is to be thrown away.
CREATE OR REPLACE FUNCTION ayb_realtime.judge_joined(
    after_lsn pg_lsn, table_oid oid, client text, expected text, question text,
    kept text[], computed text, keys text, settings bytea[], others text[], images text[]
) RETURNS TABLE (kind integer, events integer[], cohorts integer[])
    LANGUAGE plpgsql VOLATILE
AS $judge_joined$
DECLARE
    own constant text[] := ayb_realtime.pin_session();
    scans bigint;
BEGIN
    PERFORM ayb_realtime.catch_up(after_lsn);
    IF question IS NOT NULL THEN
        IF EXISTS (
            SELECT FROM generate_series(1, cardinality(others), 2) AS s (n)
            WHERE current_setting(others[s.n], true) IS DISTINCT FROM others[s.n + 1]
        ) THEN
            RAISE SQLSTATE 'AYB03';
        END IF;
        scans := ayb_realtime.scans_of(table_oid);
        RETURN QUERY SELECT a.kind, a.events, a.cohorts
            FROM ayb_realtime.answer_joined(client, own, question, kept, computed, keys, settings, images) AS a;
        -- Not for the transaction only: a domain's check may have taken a role for the session.
        PERFORM pg_catalog.set_config('role', 'none', false),
            pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
        IF ayb_realtime.scans_of(table_oid) <> scans THEN
            RETURN QUERY SELECT -2, NULL::integer[], NULL::integer[];
        END IF;
    END IF;
    IF md5(ayb_realtime.rules(table_oid, client)::text) IS DISTINCT FROM expected THEN
        RETURN QUERY SELECT -1, NULL::integer[], NULL::integer[];
    END IF;
END
$judge_joined$;
