-- A text that changes when any of these functions or relations is replaced, or a view's query, a
-- table's policies or a domain's checks are: see reach_of.
CREATE OR REPLACE FUNCTION ayb_realtime.versions_of(functions oid[], relations oid[], types oid[]) RETURNS text
    LANGUAGE plpgsql STABLE
AS $versions$
BEGIN
    RETURN concat_ws(' ',
        (SELECT string_agg(f.oid || '.' || f.xmin, ',' ORDER BY f.oid) FROM pg_proc f WHERE f.oid = ANY (functions)),
        (
            SELECT string_agg(format('%s.%s.%s', c.oid, c.relkind, c.relrowsecurity), ',' ORDER BY c.oid)
            FROM pg_class c WHERE c.oid = ANY (relations)
        ),
        (
            SELECT string_agg(r.oid || '.' || r.xmin, ',' ORDER BY r.oid)
            FROM pg_rewrite r WHERE r.ev_class = ANY (relations)
        ),
        (
            SELECT string_agg(p.oid || '.' || p.xmin, ',' ORDER BY p.oid)
            FROM pg_policy p WHERE p.polrelid = ANY (relations)
        ),
        (
            SELECT string_agg(k.oid || '.' || k.xmin, ',' ORDER BY k.oid)
            FROM pg_constraint k WHERE k.contypid = ANY (types)
        )
    );
END
$versions$;
