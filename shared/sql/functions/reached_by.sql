-- The relations that functions can read, found by the names in their texts, as in reach_of: those
-- with a name that occurs, what views and policies of these name, and so on. Unlike reach_of this has
-- no doubts: it is for functions that are known by other means not to read the table itself
-- (scans_of), so names that are put together at run time are not found, and names need not be plain.
CREATE OR REPLACE FUNCTION ayb_realtime.reached_by(functions oid[]) RETURNS oid[]
    LANGUAGE plpgsql STABLE
AS $reached$
DECLARE
    relations oid[] := '{}';
    types oid[] := '{}';
    read_functions oid[] := '{}';
    read_relations oid[] := '{}';
    read_types oid[] := '{}';
    texts text;
    runs text[];
BEGIN
    functions := functions || ayb_realtime.implied_functions();
    WHILE functions <> '{}' OR relations <> '{}' OR types <> '{}' LOOP
        texts := ayb_realtime.texts_of(functions, relations, types);
        read_functions := read_functions || functions;
        read_relations := read_relations || relations;
        read_types := read_types || types;
        IF texts ~ '[uU]&["'']' THEN
            -- A name with escapes may be any.
            RETURN ARRAY(SELECT c.oid FROM pg_class c WHERE c.oid >= 16384::oid);
        END IF;
        -- Postgres folds names as "C" does, except where an encoding has one byte for each letter,
        -- and cuts those that are too long.
        runs := ARRAY(
            SELECT DISTINCT v.run
            FROM regexp_matches(texts, '[[:alnum:]_$]+', 'g') AS m (run)
            CROSS JOIN LATERAL (VALUES (lower(m.run[1] COLLATE "C")::name::text), (lower(m.run[1])::name::text)) AS v (run)
        );
        types := ARRAY(
            SELECT unnest(ayb_realtime.types_of(functions, runs::name[])) EXCEPT SELECT unnest(read_types)
        );
        functions := ARRAY(
            SELECT p.oid FROM pg_proc p
            WHERE p.oid >= 16384::oid AND p.oid <> ALL (read_functions)
            AND lower(p.proname::text COLLATE "C") = ANY (runs)
        );
        relations := ARRAY(
            SELECT c.oid FROM pg_class c
            WHERE c.oid >= 16384::oid AND c.oid <> ALL (read_relations)
            AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
            AND CASE WHEN c.relname ~ '^[[:alnum:]_$]+$' THEN lower(c.relname::text COLLATE "C") = ANY (runs)
                ELSE strpos(lower(texts COLLATE "C"), lower(replace(c.relname, '"', '""') COLLATE "C")) > 0 END
            UNION
            SELECT i.inhrelid FROM pg_inherits i
            WHERE i.inhparent = ANY (read_relations) AND i.inhrelid <> ALL (read_relations)
        );
    END LOOP;
    RETURN read_relations;
END
$reached$;
