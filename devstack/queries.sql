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

-- name: demo_insert
-- A post by the user $1.
INSERT INTO public.posts (author_id, title, published)
VALUES ($1::text::uuid, 'Post of ' || to_char(clock_timestamp(), 'HH24:MI:SS'), true)
RETURNING id

-- name: demo_update
-- Change the title of the post $2, or else of the latest one of the user $1.
UPDATE public.posts SET title = 'Changed at ' || to_char(clock_timestamp(), 'HH24:MI:SS')
WHERE id = (
    SELECT id FROM public.posts WHERE author_id = $1::text::uuid
    ORDER BY id = $2::bigint DESC NULLS LAST, id DESC LIMIT 1
)
RETURNING id

-- name: demo_publish
-- Let others see that post, or hide it from them.
UPDATE public.posts SET published = NOT published
WHERE id = (
    SELECT id FROM public.posts WHERE author_id = $1::text::uuid
    ORDER BY id = $2::bigint DESC NULLS LAST, id DESC LIMIT 1
)
RETURNING id, published

-- name: demo_delete
-- Delete that post.
DELETE FROM public.posts
WHERE id = (
    SELECT id FROM public.posts WHERE author_id = $1::text::uuid
    ORDER BY id = $2::bigint DESC NULLS LAST, id DESC LIMIT 1
)
RETURNING id
