-- Run a statement for one cohort and undo everything it did. The statement runs in a subtransaction
-- with the client's role and settings, is planned afresh, and is rolled back once its answer has
-- been saved: nothing that a policy's function sets or takes (a setting, a role) carries over to
-- the next cohort. The statement returns two columns, the visible and the superseded images. Its
-- parameter is `own`, the session's own settings (see pin_session). If `is_own_first` is true, they
-- are put in force before the statement is parsed.
--
-- `failure` is the SQLSTATE of an error. `is_over` means that the time for the whole call is up and
-- that no second timeout will fire. Errors that say nothing about a policy (connection, resources,
-- recovery conflicts: the classes below) are raised again, unless `lenient` is true: then they
-- count against the cohort, so that a policy cannot block a table for everyone by raising them.
--
-- The answer is saved by leaving the block with an error of our own, because variables survive the
-- rollback. Between the statement and that error nothing is looked up by name, so it does not
-- matter which search path a function has left behind.
CREATE OR REPLACE FUNCTION ayb_realtime.ask_cohort(
    client text, settings bytea[], cohort integer, own text[], is_own_first boolean, statement text, lenient boolean,
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
        PERFORM ayb_realtime.assume_client(client, settings, cohort, CASE WHEN is_own_first THEN own ELSE '{}' END);
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
