-- The other tables and views that policies read. `kin` is true if the relation is the table itself
-- (possible for policies of other tables) or is related to it by inheritance, such as its parent or
-- a partition.
CREATE OR REPLACE FUNCTION ayb_realtime.relation_facts(table_oid oid, policies oid[], of_others boolean) RETURNS json
    LANGUAGE plpgsql STABLE
AS $relations$
DECLARE
    found oid[];
    kin oid[] := ARRAY[table_oid];
BEGIN
    found := ARRAY(
        SELECT DISTINCT d.refobjid FROM pg_depend d
        WHERE d.classid = 'pg_policy'::regclass AND d.objid = ANY (policies)
        AND d.refclassid = 'pg_class'::regclass AND (of_others OR d.refobjid <> table_oid)
    );
    IF found = '{}' THEN
        RETURN NULL;
    END IF;
    IF EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = table_oid OR i.inhparent = table_oid) THEN
        kin := ARRAY(
            WITH RECURSIVE kin (oid) AS (
                SELECT table_oid
                UNION
                SELECT CASE WHEN i.inhrelid = k.oid THEN i.inhparent ELSE i.inhrelid END
                FROM kin k JOIN pg_inherits i ON k.oid IN (i.inhrelid, i.inhparent)
            )
            SELECT k.oid FROM kin k
        );
    END IF;
    RETURN (
        SELECT json_agg(json_build_object(
            'name', format('%I.%I', n.nspname, c.relname),
            'kind', c.relkind,
            'secured', c.relrowsecurity,
            'kin', c.oid = ANY (kin)
        ) ORDER BY c.oid)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.oid = ANY (found)
    );
END
$relations$;
