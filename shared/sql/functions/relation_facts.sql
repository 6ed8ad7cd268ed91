-- The other tables and views that policies read. `kin` is true if the relation is the table itself
-- (possible for policies of other tables) or is related to it by inheritance, such as its parent or
-- a partition.
CREATE OR REPLACE FUNCTION ayb_realtime.relation_facts(table_oid oid, policies oid[], of_others boolean) RETURNS json
    LANGUAGE plpgsql STABLE
AS $relations$
DECLARE
    found oid[];
    kin oid[];
BEGIN
    found := ARRAY(
        SELECT DISTINCT d.refobjid FROM pg_depend d
        WHERE d.classid = 'pg_policy'::regclass AND d.objid = ANY (policies)
        AND d.refclassid = 'pg_class'::regclass AND (of_others OR d.refobjid <> table_oid)
    );
    IF found = '{}' THEN
        RETURN NULL;
    END IF;
    kin := ayb_realtime.kin_of(table_oid);
    RETURN (
        SELECT json_agg(json_build_object(
            'name', format('%I.%I', n.nspname, c.relname),
            'kind', c.relkind,
            'secured', c.relrowsecurity,
            'kin', c.oid = ANY (kin),
            -- A materialized view has what its query read when it was refreshed.
            'doubt', CASE WHEN c.relkind = 'm'
                THEN (ayb_realtime.reach_of('{}', ARRAY[c.oid], table_oid)).doubt END
        ) ORDER BY c.oid)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = ANY (found)
    );
END
$relations$;
