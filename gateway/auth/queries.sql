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

-- name: api_keys
-- The API keys with these hashes, and their users. Older versions of AYB have no scope and no list
-- of tables; the hash has no unique index, so of equal ones a revoked one counts.
SELECT DISTINCT ON (k.key_hash) k.key_hash,
    k.user_id::text AS user_id,
    coalesce(u.email, '') AS email,
    k.revoked_at IS NOT NULL AS is_revoked,
    extract(epoch FROM k.expires_at)::float8 AS expires_at,
    coalesce(to_jsonb(k) ->> 'scope', '') AS scope,
    coalesce(jsonb_typeof(to_jsonb(k) -> 'allowed_tables'), 'null') NOT IN ('null', 'array')
        AS is_malformed,
    ARRAY(SELECT jsonb_array_elements_text(
        CASE jsonb_typeof(to_jsonb(k) -> 'allowed_tables') WHEN 'array' THEN to_jsonb(k) -> 'allowed_tables' END
    )) AS allowed_tables
FROM public._ayb_api_keys AS k
JOIN public._ayb_users AS u ON u.id = k.user_id
WHERE k.key_hash = ANY ($1::text[])
ORDER BY k.key_hash, is_revoked DESC
