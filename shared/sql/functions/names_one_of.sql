-- Whether the body of a function, or of a function that its body names, and so on, has one of these
-- names in it. Names that are put together at run time are not found.
CREATE OR REPLACE FUNCTION ayb_realtime.names_one_of(function_oid oid, wanted name[]) RETURNS boolean
    LANGUAGE plpgsql STABLE
AS $names$
DECLARE
    functions oid[] := ARRAY[function_oid];
    read_functions oid[] := '{}';
    texts text;
    runs text[];
BEGIN
    WHILE functions <> '{}' LOOP
        texts := (
            SELECT string_agg(concat_ws(' ', coalesce(pg_get_function_sqlbody(f.oid), f.prosrc),
                pg_get_expr(f.proargdefaults, 0)), ' ')
            FROM pg_proc f
            WHERE f.oid = ANY (functions)
        );
        runs := ARRAY(SELECT DISTINCT lower(m.run[1]) FROM regexp_matches(texts, '[[:alnum:]_$]+', 'g') AS m (run));
        IF EXISTS (
            SELECT FROM unnest(wanted) AS w (name)
            WHERE CASE WHEN w.name ~ '^[[:alnum:]_$]+$' THEN lower(w.name) = ANY (runs)
                ELSE strpos(lower(texts), lower(w.name)) > 0 END
        ) THEN
            RETURN true;
        END IF;
        read_functions := read_functions || functions;
        functions := ARRAY(
            SELECT p.oid FROM pg_proc p
            WHERE lower(p.proname) = ANY (runs) AND p.oid >= 16384::oid AND p.oid <> ALL (read_functions)
        );
    END LOOP;
    RETURN false;
END
$names$;
