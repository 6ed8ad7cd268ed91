-- Visibility: what a client role may read of a table, and which row images which cohort may see.
--
-- The functions are called by the gateway's login and run with its rights (SECURITY INVOKER). They
-- take the client's role themselves, for the rest of the transaction, which is that one statement:
-- one round trip, and nothing stays behind in the session. Being volatile, each of their inner
-- statements has a fresh snapshot, so what follows the wait for a replica sees what was waited for.
-- docs/decisions/0005-visibility.md tells why it is built this way.

-- The joined form: the question, a SELECT that the gateway wrote from the rules, is asked once for
-- all cohorts. The settings stand in one array for each known setting (empty if it is not read).
-- A row of kind -1 says that the rules are no longer those expected: the rest is to be thrown away.
CREATE OR REPLACE FUNCTION ayb_realtime.judge_joined(
    after_lsn pg_lsn, table_oid oid, client text, expected text, question text,
    user_ids text[], user_emails text[], tenant_ids text[], claims text[], images text[]
) RETURNS TABLE (kind integer, events integer[], cohorts integer[])
    LANGUAGE plpgsql VOLATILE
AS $judge_joined$
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    PERFORM ayb_realtime.catch_up(after_lsn);
    IF question IS NOT NULL THEN
        PERFORM set_config('transaction_read_only', 'on', true), set_config('lc_monetary', 'C', true),
            set_config('role', client, true);
        RETURN QUERY EXECUTE question
            USING user_ids, user_emails, tenant_ids, claims, images;
        -- Not for the transaction only: a domain's check may have taken a role for the session.
        PERFORM set_config('role', 'none', false);
    END IF;
    IF md5(ayb_realtime.rules(table_oid, client)::text) IS DISTINCT FROM expected THEN
        RETURN QUERY SELECT -1, NULL::integer[], NULL::integer[];
    END IF;
END
$judge_joined$;
