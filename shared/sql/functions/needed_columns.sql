-- The columns that policies read, all of them if one reads the whole row, and what makes a value in
-- an image undecidable. json null and SQL NULL look alike in an image: null says that a null value
-- is undecidable, any that one anywhere within the value is, all that every value is, and opaque that
-- no image tells what the value was. It is no if all that is done with a json column is to look into
-- it: for a member of a name, or for text. (jsonb null has an element 0, and itself at the path {}.)
CREATE OR REPLACE FUNCTION ayb_realtime.needed_columns(table_oid oid, policies oid[], expressions text) RETURNS json
    LANGUAGE plpgsql STABLE
AS $needs$
DECLARE
    reads_whole_row constant boolean := strpos(expressions, '.*') > 0;
    looks_outside constant boolean := reads_whole_row OR strpos(expressions, ' #> ''{}''') > 0
        OR strpos(expressions, ' -> ''-') > 0;
BEGIN
    RETURN (
        SELECT json_agg(json_build_array(a.attname, CASE
            WHEN k.kind = 'null' AND NOT looks_outside AND strpos(replace(replace(replace(replace(expressions,
                    quote_ident(a.attname) || ' -> ''', ''), quote_ident(a.attname) || ' ->> ', ''),
                    quote_ident(a.attname) || ' #> ''{', ''), quote_ident(a.attname) || ' #>> ', ''),
                    quote_ident(a.attname)) = 0
                THEN 'no'
            ELSE k.kind
        END) ORDER BY a.attnum)
        FROM pg_attribute a
        CROSS JOIN LATERAL (SELECT CASE
            -- The relay folds line breaks of json, and what `->>` makes of it may hold some.
            WHEN a.atttypid = ANY (ARRAY['json', 'json[]']::regtype[]) THEN 'opaque'
            WHEN a.atttypid = 'jsonb'::regtype THEN 'null'
            WHEN a.atttypid = 'jsonb[]'::regtype THEN 'any'
            -- Read back from JSON their subscripts begin at 1 instead of 0.
            WHEN a.atttypid = ANY (ARRAY['int2vector', 'oidvector']::regtype[]) THEN 'all'
            WHEN a.atttypid < 16384 AND format_type(a.atttypid, NULL) NOT LIKE 'reg%' THEN 'no'
            ELSE ayb_realtime.value_kind(a.atttypid)
        END) AS k (kind)
        WHERE a.attrelid = table_oid AND a.attnum > 0 AND NOT a.attisdropped
        AND (reads_whole_row OR EXISTS (
            SELECT FROM pg_depend d
            WHERE d.classid = 'pg_policy'::regclass AND d.objid = ANY (policies)
            AND d.refclassid = 'pg_class'::regclass AND d.refobjid = table_oid
            AND d.refobjsubid = a.attnum
        ))
    );
END
$needs$;
