-- Every name that a text of SQL or PL/pgSQL can contain, and more: each run of letters, digits,
-- underscores and dollar signs, wherever it is (in a comment or a string, too), as it is written and
-- in lower case. NULL if the text may contain a name that is written in another way: with other
-- characters, with escapes (U&), or too long, so that Postgres cuts it.
--
-- Quotes must enclose such a run each, two by two; then they are pairs for Postgres, too, since
-- nothing else can begin or end within a run. A run that begins with digits or dollar signs ($1and)
-- counts without them as well.
CREATE OR REPLACE FUNCTION ayb_realtime.names_in(body text) RETURNS name[]
    LANGUAGE plpgsql STABLE
AS $names$
DECLARE
    plain constant text COLLATE "C" := body;
    runs text[];
BEGIN
    IF plain ~ '[^ -~\t\n\r\f\v]|[uU]&|""|[A-Za-z0-9_$]{64}' OR (strpos(plain, '"') > 0
        AND strpos(regexp_replace(plain, '"[A-Za-z0-9_]+"', '', 'g'), '"') > 0)
    THEN
        RETURN NULL;
    END IF;
    runs := ARRAY(SELECT DISTINCT m.run[1] FROM regexp_matches(plain, '[A-Za-z0-9_$]+', 'g') AS m (run));
    RETURN ARRAY(
        SELECT DISTINCT v.name::name
        FROM unnest(runs) AS r (run)
        -- Postgres folds ASCII letters alike everywhere, lower() by the database's language: in
        -- Turkish, I becomes a letter without a dot.
        CROSS JOIN LATERAL (VALUES (r.run), (lower(r.run COLLATE "C")), (ltrim(r.run, '$0123456789')),
            (lower(ltrim(r.run COLLATE "C", '$0123456789')))) AS v (name)
        WHERE v.name <> ''
    );
END
$names$;
