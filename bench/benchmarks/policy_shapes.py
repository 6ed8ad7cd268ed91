"""Policies as projects write them: a table, the helpers around it, and one shape after another."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from bench.servers.stack import user_id

ROLE: Final = "ayb_authenticated"
_ORGANISATIONS: Final = 50
_TEAMS: Final = 200


@dataclass(frozen=True)
class Shape:
    """Policies on `docs`; `form` is the one that the gateway should choose."""

    name: str
    policies: tuple[str, ...]
    form: str = "joined"

    @classmethod
    def of(cls, name: str, *using: str, form: str = "joined") -> Shape:
        """One permissive policy for each expression."""
        return cls(
            name,
            tuple(f"CREATE POLICY p{n} ON docs USING ({text})" for n, text in enumerate(using)),
            form,
        )


SCHEMA: Final = """
CREATE SCHEMA auth;
GRANT USAGE ON SCHEMA auth TO PUBLIC;
CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT coalesce(nullif(current_setting('request.jwt.claim', true), ''),
        nullif(current_setting('request.jwt.claims', true), ''))::jsonb $$;
CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT coalesce(nullif(current_setting('request.jwt.claim.sub', true), ''),
        (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'))::uuid $$;
CREATE FUNCTION auth.role() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT coalesce(nullif(current_setting('request.jwt.claim.role', true), ''),
        (nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'role'))::text $$;
CREATE TABLE members (team_id int, user_id uuid, level int, PRIMARY KEY (user_id, team_id));
CREATE TABLE guarded (LIKE members INCLUDING ALL);
CREATE TABLE projects (id int PRIMARY KEY, team_id int);
CREATE TABLE shared_projects (LIKE projects INCLUDING ALL);
CREATE TABLE user_roles (user_id uuid PRIMARY KEY, role text, org_id int);
CREATE TABLE factors (user_id uuid, status text);
CREATE INDEX ON factors (user_id);
CREATE TABLE docs (id bigint PRIMARY KEY, author_id uuid, email text, org_id int, tenant_id text,
    team_id int, project_id int, published boolean, path text, starts_at timestamptz,
    ends_at timestamptz, version int NOT NULL DEFAULT 0);
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
ALTER TABLE shared_projects ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON guarded USING (user_id = (SELECT auth.uid()));
CREATE POLICY teams ON shared_projects USING (EXISTS (
    SELECT FROM members m WHERE m.team_id = shared_projects.team_id AND m.user_id = auth.uid()));
ALTER TABLE docs ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON members, guarded, projects, shared_projects, factors, docs TO ayb_authenticated;

CREATE FUNCTION has_role(who uuid, wanted text) RETURNS boolean LANGUAGE sql STABLE
    SECURITY DEFINER SET search_path = public
    AS $$ SELECT EXISTS (SELECT FROM user_roles u WHERE u.user_id = who AND u.role = wanted) $$;
CREATE FUNCTION authorize(wanted text) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = '' AS $$
    DECLARE found text;
    BEGIN
        SELECT u.role INTO found FROM public.user_roles u WHERE u.user_id = auth.uid();
        RETURN found = wanted;
    END $$;
CREATE FUNCTION my_org() RETURNS int LANGUAGE sql STABLE SECURITY DEFINER
    AS $$ SELECT u.org_id FROM public.user_roles u WHERE u.user_id = auth.uid() $$;
CREATE FUNCTION my_orgs() RETURNS int[] LANGUAGE sql STABLE SECURITY DEFINER
    AS $$ SELECT array_agg(u.org_id) FROM public.user_roles u WHERE u.user_id = auth.uid() $$;
CREATE FUNCTION my_teams() RETURNS SETOF int LANGUAGE sql STABLE SECURITY DEFINER
    AS $$ SELECT m.team_id FROM public.members m WHERE m.user_id = auth.uid() $$;
CREATE FUNCTION get_claim(claim text) RETURNS text LANGUAGE sql STABLE
    AS $$ SELECT nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> claim $$;
CREATE FUNCTION current_user_id() RETURNS uuid LANGUAGE plpgsql STABLE
    AS $$ BEGIN RETURN auth.uid(); END $$;
CREATE FUNCTION folder_of(path text) RETURNS text LANGUAGE plpgsql IMMUTABLE
    AS $$ BEGIN RETURN split_part(path, '/', 1); END $$;
CREATE FUNCTION on_team(team int) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER
    AS $$ SELECT EXISTS (SELECT FROM public.members m
        WHERE m.team_id = team AND m.user_id = auth.uid()) $$;
CREATE FUNCTION found_on_team(team int) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER
    AS $$ DECLARE found boolean; BEGIN
        EXECUTE 'SELECT EXISTS (SELECT FROM public.members m
            WHERE m.team_id = $1 AND m.user_id = auth.uid())' INTO found USING team;
        RETURN found;
    END $$;
CREATE FUNCTION can_read(doc bigint) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER
    AS $$ SELECT EXISTS (SELECT FROM public.docs d JOIN public.members m ON m.team_id = d.team_id
        WHERE d.id = doc AND m.user_id = auth.uid()) $$;
CREATE FUNCTION is_on_team(who uuid, team int) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER
    AS $$ SELECT EXISTS (SELECT FROM public.members m
        WHERE m.team_id = team AND m.user_id = who) $$;
"""

SHAPES: Final = (
    Shape.of("own row, bare", "author_id = current_setting('ayb.user_id')::uuid"),
    Shape.of("own row, wrapped", "author_id = (SELECT auth.uid())"),
    Shape.of("own row, by the JWT", "author_id = (auth.jwt() ->> 'sub')::uuid"),
    Shape.of("own row, a wrapper of a wrapper", "author_id = current_user_id()"),
    Shape.of("role claim", "auth.role() = 'authenticated' AND published"),
    Shape.of("e-mail claim", "email = (auth.jwt() ->> 'email')"),
    Shape.of("organisation claim", "org_id = (auth.jwt() ->> 'org_id')::int"),
    Shape.of("tenant setting", "tenant_id = current_setting('ayb.tenant_id')"),
    Shape.of("nested claim", "org_id = (auth.jwt() -> 'app_metadata' ->> 'org_id')::int"),
    Shape.of("COALESCE over claims", """org_id = coalesce((auth.jwt() -> 'app_metadata' ->> 'none'),
        (auth.jwt() ->> 'org_id'), '0')::int"""),
    Shape.of("claim list", """team_id IN (SELECT
        jsonb_array_elements_text(auth.jwt() -> 'teams')::int)"""),
    Shape.of("claim with an argument", "org_id = get_claim('org_id')::int"),
    Shape.of("legacy claim", """author_id::text = coalesce(
        nullif(current_setting('request.jwt.claim.sub', true), ''), (auth.jwt() ->> 'sub'))"""),
    Shape.of("time window", """starts_at <= now() AND ends_at > now()
        AND author_id = auth.uid()"""),
    Shape.of("membership by EXISTS", """EXISTS (SELECT FROM members m
        WHERE m.team_id = docs.team_id AND m.user_id = auth.uid())"""),
    Shape.of("membership by IN", """team_id IN (SELECT m.team_id FROM members m
        WHERE m.user_id = (SELECT auth.uid()))"""),
    Shape.of("membership by a scalar", """(SELECT m.level FROM members m
        WHERE m.user_id = auth.uid() AND m.team_id = docs.team_id) > 0"""),
    Shape.of("membership in two hops", """project_id IN (SELECT p.id FROM projects p
        JOIN members m ON m.team_id = p.team_id WHERE m.user_id = auth.uid())"""),
    Shape.of("membership by EXISTS, with RLS", """EXISTS (SELECT FROM guarded m
        WHERE m.team_id = docs.team_id AND m.user_id = auth.uid())"""),
    Shape.of("membership by IN, with RLS", """team_id IN (SELECT m.team_id FROM guarded m
        WHERE m.user_id = auth.uid())"""),
    Shape.of("visible parent", """EXISTS (SELECT FROM shared_projects p
        WHERE p.id = docs.project_id)"""),
    Shape.of("role by a definer", "has_role(auth.uid(), 'admin') OR author_id = auth.uid()"),
    Shape.of("permission in PL/pgSQL", "(SELECT authorize('admin')) AND published"),
    Shape.of("column = f()", "org_id = my_org()"),
    Shape.of("column = ANY (f())", "org_id = ANY (my_orgs())"),
    Shape.of("column IN (SELECT f())", "team_id IN (SELECT my_teams())"),
    Shape.of("definer given a column", "on_team(team_id)"),
    Shape.of("definer given user and column", "is_on_team(auth.uid(), team_id)"),
    Shape.of("definer given a column, dynamic", "found_on_team(team_id)", form="opaque"),
    Shape.of("definer that looks the row up", "can_read(id)", form="opaque"),
    Shape.of("folder of a path", "folder_of(path) = auth.uid()::text"),
    Shape("conditional MFA", (
        "CREATE POLICY own ON docs USING (author_id = (SELECT auth.uid()))",
        """CREATE POLICY mfa ON docs AS RESTRICTIVE USING (
            array[(SELECT auth.jwt() ->> 'aal')] <@ (
                SELECT CASE WHEN count(f.user_id) > 0 THEN array['aal2']
                    ELSE array['aal1', 'aal2'] END
                FROM factors f WHERE f.user_id = auth.uid() AND f.status = 'verified'))""",
    )),
    Shape.of("anonymous or owner", "author_id IS NULL OR author_id = auth.uid()"),
    Shape("restrictive and permissive", (
        "CREATE POLICY mine ON docs USING (author_id = auth.uid())",
        "CREATE POLICY public ON docs FOR SELECT USING (published)",
        """CREATE POLICY tenant ON docs AS RESTRICTIVE
            USING (org_id = (auth.jwt() ->> 'org_id')::int)""",
        "CREATE POLICY spam ON docs AS RESTRICTIVE USING (path <> 'spam')",
    )),
    Shape("admin, or own organisation and not archived", (
        "CREATE POLICY admin ON docs USING (has_role(auth.uid(), 'admin'))",
        "CREATE POLICY own ON docs USING (org_id = my_org())",
        "CREATE POLICY kept ON docs AS RESTRICTIVE USING (ends_at > now())",
    )),
)  # fmt: skip


def settings(number: int, size: int = 0) -> tuple[str, str, str, str]:
    """A user's settings; its claims have at least `size` bytes."""
    org = number % _ORGANISATIONS
    claims = {
        "sub": user_id(number),
        "role": "authenticated",
        "email": f"user{number}@example.com",
        "org_id": org,
        "app_metadata": {"org_id": org, "provider": "email"},
        "teams": [number % _TEAMS, (number + 1) % _TEAMS],
        "aal": "aal2" if number % 3 == 0 else "aal1",
        "exp": 1_900_000_000,
        "pad": "",
    }
    missing = size - len(json.dumps(claims))
    claims["pad"] = "x" * max(0, missing)
    return user_id(number), f"user{number}@example.com", str(org), json.dumps(claims)


def rows(users: int, docs: int) -> str:
    """SQL that fills all tables for so many users, and `docs` with so many rows."""
    user = "('00000000-0000-4000-8000-' || lpad(({})::text, 12, '0'))::uuid"
    return f"""
        TRUNCATE members, guarded, projects, shared_projects, user_roles, factors, docs;
        INSERT INTO members SELECT (n + k * 7) % {_TEAMS}, {user.format("n")}, k
            FROM generate_series(0, {users - 1}) n, generate_series(0, 2) k;
        INSERT INTO guarded TABLE members;
        INSERT INTO projects SELECT n, n % {_TEAMS} FROM generate_series(0, 999) n;
        INSERT INTO shared_projects TABLE projects;
        INSERT INTO user_roles SELECT {user.format("n")},
            CASE WHEN n % 100 = 0 THEN 'admin' ELSE 'user' END, n % {_ORGANISATIONS}
            FROM generate_series(0, {users - 1}) n;
        INSERT INTO factors SELECT {user.format("n")}, 'verified'
            FROM generate_series(0, {users - 1}, 2) n;
        INSERT INTO docs SELECT n,
            CASE WHEN n % 11 <> 0 THEN {user.format(f"(n * 7) % {users}")} END,
            'user' || (n * 3) % {users} || '@example.com', n % {_ORGANISATIONS},
            (n % {_ORGANISATIONS})::text, n % {_TEAMS}, n % 1000, n % 2 = 0,
            CASE WHEN n % 13 = 0 THEN 'spam' ELSE {user.format(f"(n * 5) % {users}")} || '/x' END,
            now() - interval '1 hour',
            now() + CASE WHEN n % 5 = 0 THEN -interval '1 minute' ELSE interval '1 day' END
            FROM generate_series(1, {docs}) n;
        ANALYZE members, guarded, projects, shared_projects, user_roles, factors, docs;
    """
