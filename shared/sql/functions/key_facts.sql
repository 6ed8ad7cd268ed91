-- The columns of a table's primary key, in key order: name, type, and the operator that its index
-- uses to find a value.
CREATE OR REPLACE FUNCTION ayb_realtime.key_facts(table_oid oid) RETURNS json
    LANGUAGE plpgsql STABLE
AS $key$
BEGIN
    RETURN (
        SELECT json_agg(json_build_array(
            a.attname, format_type(a.atttypid, a.atttypmod), format('OPERATOR(%I.%s)', n.nspname, o.oprname)
        ) ORDER BY k.place)
        FROM pg_index i
        CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indclass::oid[]) WITH ORDINALITY AS k (attnum, class, place)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
        JOIN pg_opclass c ON c.oid = k.class
        JOIN pg_amop m ON m.amopfamily = c.opcfamily AND m.amopstrategy = 3
            AND m.amoplefttype = c.opcintype AND m.amoprighttype = c.opcintype
        JOIN pg_operator o ON o.oid = m.amopopr
        JOIN pg_namespace n ON n.oid = o.oprnamespace
        WHERE i.indrelid = table_oid AND i.indisprimary AND i.indisvalid AND k.place <= i.indnkeyatts
    );
END
$key$;
