-- Run a statement for one cohort and undo everything it did. The statement runs in a subtransaction
-- with the client's role and settings, is planned afresh, and is rolled back once its answer has
-- been saved: nothing that a policy's function sets or takes (a setting, a role) carries over to
-- the next cohort. The statement returns one or two columns, the visible and the superseded images.
-- Its parameters: $1 the numbers of the images that are asked about; $2 the images and $3 their keys
-- (see gateway/visibility/opaque.py), of these and others; $4 `own`, the session's own settings (see
-- pin_session). For `settings` see assume_client.
--
-- `failure` is the SQLSTATE of an error. `is_over` means that the time for the whole call is up and
-- that no second timeout will fire. Errors that say nothing about a policy (connection, resources,
-- recovery conflicts: the classes below) are raised again, unless `lenient` is true: then they
-- count against the cohort, so that a policy cannot block a table for everyone by raising them.
--
-- The answer is saved by leaving the block with an error of our own, because variables survive the
-- rollback. Every name is qualified, so it does not matter which search path the caller has put in
-- force or a function has left behind. STABLE: the statement sees what the calling statement sees.
CREATE OR REPLACE FUNCTION ayb_realtime.ask_cohort(
    client text, settings bytea[], cohort integer, own text[], statement text,
    numbers integer[], images text[], keys text[], lenient boolean,
    OUT visible integer[], OUT superseded integer[], OUT failure text, OUT is_over boolean
)
    LANGUAGE plpgsql STABLE
AS $ask$
DECLARE
    timeout pg_catalog.interval;
    is_answered boolean := false;
BEGIN
    is_over := false;
    BEGIN
        PERFORM ayb_realtime.assume_client(client, settings, cohort);
        EXECUTE statement INTO visible, superseded USING numbers, images, keys, own;
        is_answered := true;
        RAISE SQLSTATE 'AYB02';
    EXCEPTION
        WHEN query_canceled THEN
            timeout := pg_catalog.current_setting('statement_timeout')::pg_catalog.interval;
            is_over := timeout OPERATOR(pg_catalog.>) '0'::pg_catalog.interval
                AND pg_catalog.clock_timestamp() OPERATOR(pg_catalog.>=) (pg_catalog.statement_timestamp()
                    OPERATOR(pg_catalog.+) (timeout OPERATOR(pg_catalog.*) 0.9::pg_catalog.float8));
            IF NOT is_over AND NOT lenient THEN
                RAISE;
            END IF;
            failure := SQLSTATE;
        WHEN OTHERS OR assert_failure THEN
            IF NOT is_answered THEN
                IF NOT lenient AND pg_catalog.left(SQLSTATE, 2) OPERATOR(pg_catalog.=)
                    ANY ('{08,40,53,57,58,XX}'::pg_catalog.text[]) THEN
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
