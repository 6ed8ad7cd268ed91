-- name: has_demo
-- Whether one of the demo's tables is there already, ours or somebody else's.
SELECT coalesce(to_regclass('public.posts'), to_regclass('public.comments'),
    to_regclass('public._ayb_users')) IS NOT NULL

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
