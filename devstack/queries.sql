-- name: present
-- Which of the tables $1 exist, ours or somebody else's.
SELECT t.name FROM unnest($1::text[]) AS t (name) WHERE to_regclass('public.' || t.name) IS NOT NULL

-- name: uncaptured
-- Which of the tables $1 have no capture trigger yet.
SELECT t.name
FROM unnest($1::text[]) AS t (name)
WHERE NOT EXISTS (
    SELECT FROM pg_trigger g
    JOIN pg_proc p ON p.oid = g.tgfoid
    WHERE g.tgrelid = to_regclass(t.name) AND NOT g.tgisinternal
    AND p.pronamespace = to_regnamespace('ayb_realtime')
)
