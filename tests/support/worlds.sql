-- What the random policies of worlds.py may call and read.
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY '{world_a,world_b,world_group,world_owner,world_bypass}'::text[] LOOP
        IF to_regrole(name) IS NULL THEN
            EXECUTE format('CREATE ROLE %I', name);
        END IF;
        EXECUTE format('GRANT %I TO ayb_gateway', name);
    END LOOP;
    GRANT world_group TO world_a;
    ALTER ROLE world_bypass BYPASSRLS;
END $$;
CREATE SCHEMA auth; GRANT USAGE ON SCHEMA auth TO PUBLIC;
CREATE SCHEMA "odd schema"; GRANT USAGE ON SCHEMA "odd schema" TO PUBLIC;
CREATE TYPE state AS ENUM ('draft', 'in review', 'it''s out');
CREATE TYPE "odd schema"."Size" AS ENUM ('S', 'M');
CREATE DOMAIN tag AS text CHECK (VALUE <> 'never');
CREATE TYPE pair AS (x int, y text);
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$
    select coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''),
        (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid
$$;
CREATE FUNCTION auth.tenant() RETURNS integer LANGUAGE sql STABLE
    RETURN NULLIF(current_setting('ayb.tenant_id'), '')::integer;
CREATE FUNCTION auth.email() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT current_setting('ayb.user_email') -- the address
$$;
CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS $$
    select nullif(current_setting('request.jwt.claims', true), '')::jsonb
$$;
CREATE FUNCTION plain_uid() RETURNS uuid LANGUAGE plpgsql STABLE AS $$
    BEGIN RETURN current_setting('ayb.user_id')::uuid; END $$;
CREATE FUNCTION hidden_uid() RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER AS $$
    SELECT NULLIF(current_setting('ayb.user_id'), '')::uuid $$;
CREATE FUNCTION folded_uid() RETURNS uuid LANGUAGE plpgsql IMMUTABLE AS $$
    BEGIN RETURN NULLIF(current_setting('ayb.user_id'), '')::uuid; END $$;
CREATE FUNCTION remembered_uid() RETURNS uuid LANGUAGE plpgsql STABLE AS $$ BEGIN
    IF coalesce(current_setting('world.uid', true), '') = '' THEN
        PERFORM set_config('world.uid', current_setting('ayb.user_id'), true),
            set_config('search_path', 'pg_catalog', true), set_config('TimeZone', 'Japan', true);
    END IF;
    RETURN NULLIF(current_setting('world.uid'), '')::uuid;
END $$;
CREATE FUNCTION claim(name text) RETURNS text LANGUAGE plpgsql STABLE AS $$
    BEGIN RETURN NULLIF(current_setting('request.jwt.claims'), '')::jsonb ->> name; END $$;
CREATE TYPE mood AS ENUM ('low', 'high');
CREATE FUNCTION mood_json(mood) RETURNS json LANGUAGE sql IMMUTABLE AS $$ SELECT '"high"'::json $$;
CREATE CAST (mood AS json) WITH FUNCTION mood_json(mood);
CREATE TABLE members (project int, user_id uuid, level int);
CREATE TABLE secured (project int, user_id uuid, level int);
CREATE VIEW seen_members AS SELECT * FROM members WHERE level > 1;
CREATE TABLE banned (email text);
ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON secured USING (user_id = NULLIF(current_setting('ayb.user_id'), '')::uuid);
GRANT SELECT ON members, secured, seen_members, banned TO PUBLIC;
CREATE FUNCTION is_member(asked int) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER AS $$
    SELECT EXISTS (SELECT FROM public.members m WHERE m.project = asked
        AND m.user_id = NULLIF(current_setting('ayb.user_id'), '')::uuid) $$;
CREATE FUNCTION level_in(asked int) RETURNS int LANGUAGE sql STABLE AS $$
    SELECT max(s.level) FROM public.secured s WHERE s.project = $1 $$;
CREATE FUNCTION role_in(asked int, who uuid) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = '' AS $$ SELECT CASE m.level WHEN 2 THEN 'it''s, "two"' WHEN 1 THEN 'one' END
    FROM public.members m WHERE m.project = $1 AND m.user_id = who ORDER BY m.level LIMIT 1 $$;
CREATE FUNCTION knows(other uuid) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER AS $$
    SELECT bool_or(public.is_member(m.project)) FROM public.seen_members m WHERE m.user_id = other $$;
CREATE FUNCTION picky(asked int) RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN
    IF asked = 3 AND current_setting('ayb.tenant_id') = '2' THEN RAISE 'not this one'; END IF;
    RETURN asked > 1;
END $$;
CREATE FUNCTION my_projects() RETURNS SETOF int LANGUAGE sql STABLE SECURITY DEFINER AS $$
    SELECT m.project FROM public.members m
    WHERE m.user_id = NULLIF(current_setting('ayb.user_id'), '')::uuid $$;
CREATE FUNCTION unqualified_level() RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN
    RETURN (SELECT max(level) FROM members
        WHERE user_id = NULLIF(current_setting('ayb.user_id'), '')::uuid); END $$;
CREATE FUNCTION has_level(uid uuid, lowest int) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT FROM members m WHERE m.user_id = uid AND m.level >= lowest) $$;
INSERT INTO members
    SELECT n % 5, ('00000000-0000-4000-8000-00000000000' || (1 + n % 4))::uuid, n % 3
    FROM generate_series(1, 9) n;
INSERT INTO secured SELECT * FROM members;
INSERT INTO banned VALUES ('b@example.com'), (NULL);

-- Functions of every kind: what they declare is not always true, and some depend on the session.
CREATE SCHEMA frozen; GRANT USAGE ON SCHEMA frozen TO PUBLIC;
CREATE FUNCTION volatile_uid() RETURNS uuid LANGUAGE plpgsql VOLATILE AS $$
    BEGIN RETURN NULLIF(current_setting('ayb.user_id'), '')::uuid; END $$;
CREATE FUNCTION clause_uid() RETURNS uuid LANGUAGE sql STABLE SET search_path = '' SET TimeZone = 'Japan'
    AS $$ SELECT NULLIF(pg_catalog.current_setting('ayb.user_id'), '')::uuid $$;
CREATE FUNCTION restored_uid() RETURNS uuid LANGUAGE plpgsql STABLE SET world.uid = '' AS $$
    BEGIN RETURN public.remembered_uid(); END $$;
CREATE FUNCTION caught_uid() RETURNS uuid LANGUAGE plpgsql STABLE AS $$ BEGIN
    RETURN current_setting('ayb.user_id')::uuid;
EXCEPTION WHEN invalid_text_representation THEN
    PERFORM set_config('world.caught', 'yes', true);
    RETURN NULL;
END $$;
CREATE FUNCTION folded_ban(asked text) RETURNS boolean LANGUAGE sql IMMUTABLE SECURITY DEFINER AS $$
    SELECT EXISTS (SELECT FROM public.banned b WHERE b.email = asked) $$;
CREATE FUNCTION public.here() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE FUNCTION "odd schema".here() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2';
GRANT EXECUTE ON FUNCTION "odd schema".here() TO PUBLIC;
CREATE FUNCTION found_here() RETURNS int LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN here(); END $$;
CREATE FUNCTION definer_name() RETURNS name LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT current_user';
CREATE FUNCTION is_small(asked int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE COST 0.0001 AS $$
    BEGIN RETURN asked < 5; END $$;
CREATE FUNCTION any_of(VARIADIC texts text[]) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT texts[pg_catalog.cardinality(texts)] $$;
CREATE FUNCTION level_of(uid uuid, fallback int DEFAULT 0) RETURNS int LANGUAGE plpgsql STABLE
    SECURITY DEFINER SET search_path = public AS $$ BEGIN
    RETURN coalesce((SELECT max(m.level) FROM members m WHERE m.user_id = uid), fallback); END $$;
CREATE FUNCTION my_levels() RETURNS TABLE (project int, level int) LANGUAGE plpgsql STABLE AS $$ BEGIN
    RETURN QUERY SELECT m.project, m.level FROM public.members m
        WHERE m.user_id = NULLIF(current_setting('ayb.user_id'), '')::uuid; END $$;
CREATE FUNCTION same_text(one text, other text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT one = other $$;
CREATE OPERATOR === (LEFTARG = text, RIGHTARG = text, FUNCTION = same_text);
CREATE DOMAIN numbers AS int[] CHECK (cardinality(VALUE) < 9);
CREATE TYPE nested AS (inner_pair pair, day date, mark state);
CREATE TABLE members_kept AS TABLE members;
CREATE TABLE secured_kept AS TABLE secured;
-- An image as capture makes it, which does without one where a value cannot be written (a curve).
CREATE FUNCTION world_image(record) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN
    RETURN row_to_json($1)::text;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;
