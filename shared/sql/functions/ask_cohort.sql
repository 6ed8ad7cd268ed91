-- Ask a statement for one cohort, and undo all that it did. It runs in a subtransaction with the
-- client's role and settings, is planned again, and is rolled back once its answer is kept: nothing
-- that a policy's function sets or takes (a setting, a role) is there for the next cohort. The
-- statement has two columns, the images that are visible and those that are superseded; its
-- parameter is `own`, the session's own settings (see pin_session), which are in force before it is
-- parsed where `is_own_first`.
--
-- `failure` is the SQLSTATE of an error; `is_over` that the time of the whole call is up, and no
-- second alarm will come. Errors that say nothing about a policy (connection, resources, recovery
-- conflicts: the classes below) are raised, unless lenient: then they count against the cohort, so
-- that a policy cannot stop a table for everybody by raising them.
--
-- The answer is kept by leaving the block with an error of our own: variables outlive it. Until then
-- nothing is looked up by name after the statement, whatever search path a function has left.
CREATE OR REPLACE FUNCTION ayb_realtime.ask_cohort(
    client text, settings bytea[], own text[], is_own_first boolean, statement text, lenient boolean,
    OUT visible integer[], OUT superseded integer[], OUT failure text, OUT is_over boolean
)
    LANGUAGE plpgsql VOLATILE
AS $ask$
DECLARE
    foreign_classes constant text[] := '{08,40,53,57,58,XX}';
    timeout constant interval := current_setting('statement_timeout')::interval;
    is_answered boolean := false;
BEGIN
    is_over := false;
    BEGIN
        PERFORM ayb_realtime.assume_client(client, settings, CASE WHEN is_own_first THEN own ELSE '{}' END);
        EXECUTE statement INTO visible, superseded USING own;
        is_answered := true;
        RAISE SQLSTATE 'AYB02';
    EXCEPTION
        WHEN query_canceled THEN
            is_over := timeout > interval '0' AND clock_timestamp() >= statement_timestamp() + timeout * 0.9;
            IF NOT is_over AND NOT lenient THEN
                RAISE;
            END IF;
            failure := SQLSTATE;
        WHEN OTHERS OR assert_failure THEN
            IF NOT is_answered THEN
                IF NOT lenient AND left(SQLSTATE, 2) = ANY (foreign_classes) THEN
                    RAISE;
                END IF;
                failure := SQLSTATE;
            END IF;
    END;
    IF failure IS NOT NULL THEN
        visible := NULL;
        superseded := NULL;
    END IF;
END
$ask$;
