-- name: user_by_email
-- The user with an e-mail address, given in lower case. Login attempts are counted for that form,
-- and AYB keeps addresses unique in it.
SELECT id::text AS id, coalesce(email, '') AS email, password_hash, created_at, updated_at
FROM public._ayb_users
WHERE lower(email) = $1
ORDER BY created_at
LIMIT 1

-- name: user_by_id
-- The user named by a token's sub.
SELECT id::text AS id, coalesce(email, '') AS email, password_hash, created_at, updated_at
FROM public._ayb_users
WHERE id = $1

-- name: knows_second_factors
-- Whether this database belongs to a version of AYB that has second factors.
SELECT to_regclass('public._ayb_user_mfa') IS NOT NULL

-- name: has_second_factor
-- Whether a user has set up a second factor, which only AYB can check.
SELECT EXISTS (SELECT FROM public._ayb_user_mfa WHERE user_id = $1 AND enabled)
