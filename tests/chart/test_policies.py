"""The policies of `tests.support.policies`, on everything that the chart renders."""

from __future__ import annotations

import copy
import fnmatch
from typing import Any

import pytest

from tests.support.chart import Manifest, Values, example, examples, manifests
from tests.support.chart_values import TOGGLES, toggled
from tests.support.policies import POLICIES

EXCEPTIONS = {
    ("resources", "*", "no cpu in limits"): "a CPU limit throttles, and so delays every event",
    ("fixed_images", "Deployment/*-valkey", "image valkey/valkey:8"): (
        "the bundled Valkey is for trials: the newest of its version"
    ),
    ("secrets_by_reference", "Job/*-migrations", "AYB_REDIS_URL*"): "no secret: it is localhost",
    ("labelled", "ExternalSecret/*", "*"): "an object of the operator's own",
}
"""What a policy may say, by policy, object and complaint, and why it is right."""

VALUES: list[tuple[str, Values]] = [
    *((name, example(name)) for name in examples()),
    *((", ".join(changes) or "inline", toggled(changes)) for changes in TOGGLES),
]


def complaints(rendered: list[Manifest]) -> set[tuple[str, str, str]]:
    """Everything that the policies say, as (policy, object, complaint)."""
    return {(p.__name__, name, text) for p in POLICIES for name, text in p(rendered)}


def excepted(complaint: tuple[str, str, str]) -> bool:
    """Whether an exception has a reason for it."""
    return any(
        all(fnmatch.fnmatch(*pair) for pair in zip(complaint, pattern, strict=True))
        for pattern in EXCEPTIONS
    )


@pytest.mark.parametrize("values", [values for _, values in VALUES], ids=[n for n, _ in VALUES])
def test_every_manifest_fulfils_the_policies(values: Values) -> None:
    """No policy has anything to say but what is excepted with a reason."""
    assert [c for c in sorted(complaints(manifests(values))) if not excepted(c)] == []


def test_every_exception_is_needed() -> None:
    """An exception that no manifest needs any more is removed."""
    said = {c for _, values in VALUES for c in complaints(manifests(values))}
    for pattern in EXCEPTIONS:
        assert any(
            all(fnmatch.fnmatch(*pair) for pair in zip(complaint, pattern, strict=True))
            for complaint in said
        ), pattern


def _pod(rendered: list[Manifest], name: str = "demo-ayb-realtime-gateway") -> dict[str, Any]:
    [found] = [m for m in rendered if (m["kind"], m["metadata"]["name"]) == ("Deployment", name)]
    pod: dict[str, Any] = found["spec"]["template"]["spec"]
    return pod


BREAKAGES = {
    "not_root": lambda r: _pod(r)["securityContext"].update(runAsUser=0),
    "seccomp": lambda r: _pod(r)["securityContext"].pop("seccompProfile"),
    "no_host": lambda r: _pod(r).update(hostNetwork=True),
    "no_api_token": lambda r: _pod(r).pop("automountServiceAccountToken"),
    "no_privileges": lambda r: _pod(r)["containers"][0].pop("securityContext"),
    "resources": lambda r: _pod(r)["containers"][0]["resources"].pop("requests"),
    "fixed_images": lambda r: _pod(r)["containers"][0].update(image="ayb:latest"),
    "probes": lambda r: _pod(r)["containers"][0].pop("livenessProbe"),
    "network_policies": lambda r: r.remove(next(m for m in r if m["kind"] == "NetworkPolicy")),
    "disruption_budgets": lambda r: r.remove(
        next(m for m in r if m["kind"] == "PodDisruptionBudget")
    ),
    "selectors": lambda r: next(m for m in r if m["kind"] == "Service")["spec"].update(
        selector={"app": "other"}
    ),
    "unique_names": lambda r: r.append(r[0]),
    "labelled": lambda r: r[0]["metadata"].pop("labels"),
    "secrets_by_reference": lambda r: _pod(r)["containers"][0]["env"].append(
        {"name": "AYB_REALTIME_BUS_KEY", "value": "open"}
    ),
    "spread": lambda r: _pod(r).pop("affinity"),
}


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.__name__)
def test_every_policy_can_fail(policy: Any) -> None:
    """A manifest that breaks a policy is noticed by it."""
    rendered = copy.deepcopy(manifests(example("values-production.yaml")))
    before = set(policy(rendered))
    BREAKAGES[policy.__name__](rendered)
    assert set(policy(rendered)) - before
