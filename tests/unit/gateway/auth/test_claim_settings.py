from __future__ import annotations

from typing import Any

import pytest

from gateway.auth.claim_path import parse_claim_path
from gateway.auth.claim_settings import MOST_SETTINGS, names_of, parse_claim_settings, value_of
from gateway.auth.claims import anonymous_settings
from gateway.auth.jws import TokenRefusedError
from gateway.auth.verifier import TokenVerifier
from gateway.errors import InvalidTokenError
from gateway.visibility.cohorts import KNOWN_SETTINGS
from tests.support.tokens import USER_ID, claims, gateway_settings, hs256


def test_settings_are_named_with_the_claims_that_they_get() -> None:
    """Settings and claims stand in pairs; those of ours keep their place in the order."""
    mapped = parse_claim_settings(
        'ayb.tenant_id=org_id, App.Team = app_metadata.team,app.x="https://x.example/a,b=c"'
    )
    assert [(s.name, s.path.names) for s in mapped] == [
        ("ayb.tenant_id", ("org_id",)),
        ("app.team", ("app_metadata", "team")),
        ("app.x", ("https://x.example/a,b=c",)),
    ]
    assert names_of(mapped) == (*KNOWN_SETTINGS, "app.team", "app.x")
    assert names_of(()) == KNOWN_SETTINGS


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("app.team", "not of the form setting=claim"),
        ("app.team=", "not of the form"),
        ("=team", "not of the form"),
        ("app.team=a..b", "is not the path of a claim"),
        ("app.team=a,app.team=b", "app.team is set twice"),
        ("app.team=a,APP.team=b", "app.team is set twice"),
        ("role=role", "role is not the name of a setting of your own"),
        ("search_path=x", "search_path is not the name"),
        ("session_authorization=x", "is not the name"),
        ("team=x", "team is not the name"),
        ("a.b.c=x", "a.b.c is not the name"),
        ("app.1=x", "is not the name"),
        ("app.te am=x", "is not the name"),
        ('"app.team"=x', "is not the name"),
        ("app.größe=x", "is not the name"),
        (f"app.{'x' * 60}=x", "is not the name"),
        ("request.jwt.claims=x", "request.jwt.claims always has all claims"),
        ("request.jwt.claim.sub=x", "is not the name"),
        ("request.jwt=x", "request.jwt belongs to"),
        ("plpgsql.extra_errors=x", "belongs to Postgres or an extension"),
        ("pg_stat_statements.track=x", "belongs to Postgres or an extension"),
        ("auto_explain.log_analyze=x", "belongs to"),
        ("ayb_realtime.x=y", "belongs to"),
        ('app.team="a,app.role=b', "a double quote that is not closed"),
        (",".join(f"app.s{n}=c" for n in range(MOST_SETTINGS + 1)), "at most 32 settings"),
    ],
)
def test_what_a_token_must_not_set_is_refused(text: str, said: str) -> None:
    """Settings of Postgres, of extensions and of ours, and what cannot be read, are named."""
    with pytest.raises(ValueError, match=said):
        parse_claim_settings(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("x", "x"),
        ("", ""),
        (None, ""),
        (7, "7"),
        (9007199254740993, "9007199254740993"),
        (True, "true"),
        (["a", "ö"], '["a","ö"]'),
        ({"a": {"b": 1}}, '{"a":{"b":1}}'),
    ],
)
def test_a_claim_becomes_text(value: Any, text: str) -> None:
    """A string is itself, null is empty, and what else JSON has is its JSON."""
    assert value_of({"c": value}, parse_claim_path("c")) == text


@pytest.mark.parametrize("value", ["a\x00b", "\ud800", ["\ud800"], {"\ud800": 1}])
def test_a_claim_that_postgres_cannot_hold_is_refused(value: Any) -> None:
    """NUL and lone surrogates have no place in a text of Postgres."""
    with pytest.raises(TokenRefusedError):
        value_of({"c": value}, parse_claim_path("c"))


async def test_tokens_give_the_settings_of_the_deployment() -> None:
    """Mapped claims take the place of ours, or follow them; absent ones are empty."""
    settings = gateway_settings(
        auth_claim_settings="ayb.tenant_id=org_id,ayb.user_id=uid,ayb.user_email=m.mail,app.t=a.t"
    )
    verifier = TokenVerifier(settings.token_options)
    given = claims(org_id="o-1", uid="u-1", m={"mail": "m@x"}, a={"t": "red"}, tenantId="other")
    found = (await verifier.verify(hs256(given))).settings()
    assert (*found[:3], *found[4:]) == ("u-1", "m@x", "o-1", "red")
    found = (await verifier.verify(hs256(claims(tenantId="other")))).settings()
    assert (*found[:3], *found[4:]) == ("", "", "", "")
    assert settings.setting_names == (*KNOWN_SETTINGS, "app.t")
    with pytest.raises(InvalidTokenError):
        await verifier.verify(hs256(claims(a={"t": "\x00"})))


async def test_claims_that_are_not_mapped_stay_as_they_are() -> None:
    """A mapping of one setting leaves the others to sub, email and tenantId."""
    settings = gateway_settings(auth_claim_settings="app.t=t")
    found = (
        await TokenVerifier(settings.token_options).verify(hs256(claims(tenantId=7, t="x")))
    ).settings()
    assert (*found[:3], *found[4:]) == (USER_ID, "user@example.com", "7", "x")


def test_a_client_without_a_token_has_every_setting_empty() -> None:
    """So that nothing of another client can remain, and policies read no NULL."""
    assert anonymous_settings("anon", 2) == ("", "", "", '{"role":"anon"}', "", "")
