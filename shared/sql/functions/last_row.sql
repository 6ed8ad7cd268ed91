-- The last row of judge_looped and judge_opaque, after the cohorts were asked: see judge_looped.
-- `undecidable` are the images that cannot be judged, `stop` the cohort to continue with, `spent` the
-- seconds that each cohort took. `scans` is the result of scans_of from before the cohorts were
-- asked; NULL where policies may read the table itself. VOLATILE: the rules are those of a snapshot
-- taken after the answer.
CREATE OR REPLACE FUNCTION ayb_realtime.last_row(
    table_oid oid, client text, expected text, scans bigint, undecidable integer[], changed integer[],
    stop integer, spent real[],
    OUT cohort integer, OUT visible integer[], OUT superseded integer[], OUT failure text, OUT next_cohort integer,
    OUT costs real[]
)
    LANGUAGE plpgsql VOLATILE
AS $last$
BEGIN
    cohort := CASE WHEN md5(ayb_realtime.rules(table_oid, client)::text) IS DISTINCT FROM expected THEN -1
        WHEN ayb_realtime.scans_of(table_oid) <> scans THEN -2 ELSE 0 END;
    visible := undecidable;
    superseded := changed;
    next_cohort := stop;
    costs := spent;
END
$last$;
