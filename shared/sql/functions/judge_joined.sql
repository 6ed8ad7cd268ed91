-- Visibility: which columns of a table a client role may read, and which row images each cohort may
-- see.
--
-- The gateway's login calls these functions, and they run with its rights (SECURITY INVOKER). They
-- switch to the client's role themselves, for the rest of the transaction, which is that single
-- statement: one round trip, and nothing is left behind in the session. Because they are VOLATILE,
-- each of their inner statements has a fresh snapshot, so whatever follows the wait for a replica
-- sees what was waited for. docs/decisions/0005-visibility.md explains why it is built this way.

-- The joined form: the question, a SELECT that the gateway wrote from the rules, is asked once for
-- all cohorts. `kept` holds values that the gateway already knows for groups of cohorts. If a query
-- `computed` is given, it first runs for each cohort separately (see cohort_values), under its
-- `settings` (see assume_client). `keys` is a query that reads from the images the values to which
-- `computed` is limited. `others` is a list of alternating names and values: further settings under
-- which the kept values were computed. If one of them has a different value now, AYB03 is raised.
--
-- A row of kind -1 means that the rules are no longer the expected ones. A row of kind -2 means
-- that something the policies call has read the table itself, so an old image would be judged by
-- the table's current rows. In both cases the caller must discard the other rows.
CREATE OR REPLACE FUNCTION ayb_realtime.judge_joined(
    after_lsn pg_lsn, table_oid oid, client text, expected text, question text,
    kept text[], computed text, keys text, settings bytea[], others text[], images text[]
) RETURNS TABLE (kind integer, events integer[], cohorts integer[])
    LANGUAGE plpgsql VOLATILE
AS $judge_joined$
DECLARE
    own constant pg_catalog.text[] := ayb_realtime.pin_session();
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
        -- Not only for the transaction: a domain's check may have set a role for the session.
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
