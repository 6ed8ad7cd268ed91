-- Everything that functions and relations can read, found by name: whatever search path is in force,
-- a body in SQL or PL/pgSQL reads only what it names. So each name in it (see names_in) is taken for
-- each relation and function with that name, in whatever schema, and their texts are read in turn:
-- the bodies of functions, the queries of views, the policies of tables, the checks of domains.
-- Functions of the operators, operator classes and casts that users have made are taken to be called.
-- This finds more than is read, never less.
--
-- `doubt` is NULL if all of it is known and nothing of it is the table, or related to the table by
-- inheritance: then no row of the table as it is now can decide. Otherwise it says why not. `digest`
-- changes with any version of what was read.
--
-- Nothing is executed, and nothing remembered: ayb_realtime.rules asks for it at each question.
-- docs/decisions/0024-functions-of-the-row.md explains why it is built this way.
CREATE OR REPLACE FUNCTION ayb_realtime.reach_of(
    functions oid[], relations oid[], table_oid oid, OUT doubt text, OUT digest text
)
    LANGUAGE plpgsql STABLE
AS $reach$
DECLARE
    most constant integer := 200;
    kin constant oid[] := ayb_realtime.kin_of(table_oid);
    read_functions oid[] := '{}';
    read_relations oid[] := '{}';
    read_types oid[] := '{}';
    types oid[];
    names name[] := '{}';
    texts text;
BEGIN
    digest := '';
    functions := functions || ayb_realtime.implied_functions();
    LOOP
        types := ayb_realtime.types_of(functions, names);
        IF types <> '{}' THEN
            types := ARRAY(SELECT unnest(types) EXCEPT SELECT unnest(read_types) ORDER BY 1);
        END IF;
        EXIT WHEN functions = '{}' AND relations = '{}' AND types = '{}';
        IF cardinality(functions) + cardinality(relations) > most THEN
            doubt := 'may read too many things to follow them';
            RETURN;
        END IF;
        doubt := CASE WHEN functions <> '{}' THEN ayb_realtime.function_doubt(functions) END;
        IF doubt IS NULL AND types <> '{}' THEN
            doubt := ayb_realtime.type_doubt(types);
        END IF;
        IF doubt IS NULL AND relations <> '{}' THEN
            doubt := (
                SELECT format(CASE WHEN c.oid = ANY (kin) THEN 'may read %I.%I, so the row as it is now'
                    ELSE 'may read %I.%I' END, n.nspname, c.relname)
                FROM pg_class c
                JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE c.oid = ANY (relations) AND (c.oid = ANY (kin) OR c.oid < 16384::oid
                    OR n.nspname = 'ayb_realtime' OR c.relkind NOT IN ('r', 'p', 'v', 'm'))
                ORDER BY c.oid LIMIT 1
            );
        END IF;
        IF doubt IS NOT NULL THEN
            RETURN;
        END IF;
        texts := ayb_realtime.texts_of(functions, relations, types);
        names := ayb_realtime.names_in(texts);
        doubt := CASE WHEN names IS NULL THEN 'has names that are not plain' ELSE ayb_realtime.name_doubt(names) END;
        IF doubt IS NOT NULL THEN
            RETURN;
        END IF;
        digest := md5(digest || texts);
        read_functions := read_functions || functions;
        read_relations := read_relations || relations;
        read_types := read_types || types;
        functions := ARRAY(
            SELECT p.oid FROM pg_proc p
            WHERE p.proname = ANY (names) AND p.oid >= 16384::oid AND p.oid <> ALL (read_functions)
            -- Functions of triggers cannot be called.
            AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
            ORDER BY p.oid
        );
        relations := ARRAY(
            SELECT c.oid FROM pg_class c
            WHERE c.relname = ANY (names) AND c.oid <> ALL (read_relations)
            AND c.relkind NOT IN ('i', 'I', 'c')
            -- Not the temporary tables of other sessions, which come and go.
            AND (c.relpersistence <> 't' OR c.relnamespace = pg_my_temp_schema())
            UNION
            SELECT i.inhrelid FROM pg_inherits i
            WHERE i.inhparent = ANY (read_relations) AND i.inhrelid <> ALL (read_relations)
            ORDER BY 1
        );
    END LOOP;
END
$reach$;
