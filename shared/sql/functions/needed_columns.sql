-- The columns that policies read (all columns if one reads the whole row), and which values of each
-- make an image undecidable. In an image, JSON null and SQL NULL look the same. `null` means that a
-- null value is undecidable; `any`, that a value with a null anywhere inside it is; `all`, that
-- every value is; `opaque`, that no image shows what the value was. It is `no` if policies only
-- look inside a jsonb column, for a named member or for text. (A jsonb null has an element 0, and
-- is itself the value at path {}.)
--
-- A column whose type is a domain with constraints is needed in any case: what an image lacks is
-- read as NULL, which the domain may refuse.
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
            WHEN NOT u.is_read AND k.kind <> 'opaque' THEN 'no'
            WHEN k.kind = 'null' AND NOT looks_outside AND strpos(replace(replace(replace(replace(expressions,
                    quote_ident(a.attname) || ' -> ''', ''), quote_ident(a.attname) || ' ->> ', ''),
                    quote_ident(a.attname) || ' #> ''{', ''), quote_ident(a.attname) || ' #>> ', ''),
                    quote_ident(a.attname)) = 0
                THEN 'no'
            ELSE k.kind
        END) ORDER BY a.attnum)
        FROM pg_attribute a
        CROSS JOIN LATERAL (SELECT CASE
            -- The relay folds line breaks in json, and the result of `->>` may contain some.
            WHEN a.atttypid = ANY (ARRAY['json', 'json[]']::regtype[]) THEN 'opaque'
            WHEN a.atttypid = 'jsonb'::regtype THEN 'null'
            WHEN a.atttypid = 'jsonb[]'::regtype THEN 'any'
            -- When they are read back from JSON, their subscripts start at 1 instead of 0.
            WHEN a.atttypid = ANY (ARRAY['int2vector', 'oidvector']::regtype[]) THEN 'all'
            WHEN a.atttypid < 16384 AND format_type(a.atttypid, NULL) NOT LIKE 'reg%' THEN 'no'
            ELSE ayb_realtime.value_kind(a.atttypid)
        END) AS k (kind)
        CROSS JOIN LATERAL (SELECT reads_whole_row OR EXISTS (
            SELECT FROM pg_depend d
            WHERE d.classid = 'pg_policy'::regclass AND d.objid = ANY (policies)
            AND d.refclassid = 'pg_class'::regclass AND d.refobjid = table_oid
            AND d.refobjsubid = a.attnum
        )) AS u (is_read)
        WHERE a.attrelid = table_oid AND a.attnum > 0 AND NOT a.attisdropped
        AND (u.is_read OR a.atttypid >= 16384::oid AND EXISTS (
            WITH RECURSIVE part (oid) AS (
                SELECT a.atttypid
                UNION ALL
                SELECT t.typbasetype FROM part JOIN pg_type t ON t.oid = part.oid WHERE t.typtype = 'd'
            )
            SELECT FROM part JOIN pg_type t ON t.oid = part.oid
            WHERE t.typnotnull OR EXISTS (SELECT FROM pg_constraint c WHERE c.contypid = t.oid)
        ))
    );
END
$needs$;
