"""The Helm chart, linted and rendered by Helm's own engine and validated against Kubernetes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import yaml
from helm_python.chart import lint
from helm_python.errors import HelmError
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import GatewayMetrics
from gateway.settings import GatewaySettings
from relay.metrics import RelayMetrics
from relay.settings import RelaySettings
from shared.settings import load_settings
from tests.support.chart import (
    CHART,
    changed,
    environment,
    example,
    examples,
    manifests,
    pods,
    render,
)
from tests.support.chart_values import INLINE, TOGGLES, toggled

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.requirements import Requirements

KUBERNETES = ["1.28", "1.31", "1.34", "1.37"]
WITHOUT_SCHEMA = {
    "ServiceMonitor", "PrometheusRule", "HTTPRoute", "BackendConfig", "ExternalSecret",
}  # fmt: skip
"""Kinds of custom resources, which the schemas of Kubernetes do not know."""

SECRETS = re.compile(r"-password|a secret of the tokens|a key of the bus")


@pytest.mark.parametrize("name", examples())
def test_every_example_lints(name: str) -> None:
    """Helm finds nothing to say about any example, warnings included."""
    report = lint(CHART, example(name), strict=True, namespace="apps")
    assert [message for message in report["messages"] if message["severity"] > 1] == []
    assert report["errors"] == []


@cache
def different_manifests() -> frozenset[str]:
    """Everything that the examples and toggles render, each manifest once, as JSON."""
    return frozenset(
        json.dumps(manifest, sort_keys=True)
        for values in [*map(example, examples()), *map(toggled, TOGGLES)]
        for manifest in manifests(values)
        if manifest["kind"] not in WITHOUT_SCHEMA
    )


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_manifest_is_valid(version: str) -> None:
    """Each example and each toggle renders manifests that this Kubernetes takes, strictly."""
    assert len(different_manifests()) > 50
    for manifest in different_manifests():
        kubernetes_validate.validate(json.loads(manifest), version, strict=True)


def test_the_newest_kubernetes_is_among_them() -> None:
    """The list of versions ends with the newest that there is a schema for."""
    assert kubernetes_validate.latest_version().rpartition(".")[0] == KUBERNETES[-1]


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("gateway.replica", 3, "replica"),
        ("gateway.settings", {"AYB_REALTIME_RING": 1}, "AYB_REALTIME_RING"),
        ("gateway.settings", {"AYB_AUTH_ROLE": "x"}, "AYB_AUTH_ROLE"),
        ("gateway.poolConnections", 1, "poolConnections"),
        ("auth.explainSecret.value", "short", "auth.explainSecret.value is too short"),
        ("tests.sql", "SELECT 1", "tests.sql needs tests.table"),
        ("relay.replicas", 0, "replicas"),
        ("traces.ratio", 2, "ratio"),
        ("traces.endpoint", "collector:4318", "endpoint"),
        ("gateway.replicas", "three", "replicas"),
        ("realtime.deletes", "some", "deletes"),
        ("realtime.tables", [], "tables"),
        ("database.relay.url", "mysql://db/app", "url"),
        ("redis.urls", ["http://redis"], "urls"),
        ("auth.algorithms", ["none"], "algorithms"),
        ("auth.jwtSecret.value", "short", "auth.jwtSecret.value is too short"),
        ("auth.jwtSecret.value", "", "auth has no key"),
        ("busKey.value", "short", "busKey.value is too short"),
        ("auth.roles", ["editor"], "auth.roles needs auth.roleClaim"),
        ("database.relay.url", "", "database.relay is missing"),
        ("database.gateway.url", "", "database.gateway is missing"),
        ("database.gateway.existingSecret", "both", "database.gateway has both"),
        ("redis.urls", [], "redis is missing"),
        ("redis.existingSecret", "both", "redis has both"),
        ("migrations.url", "", "migrations is missing"),
        ("follower", True, "migrations.enabled and follower"),
        ("ingress.enabled", True, "ingress.host is missing"),
        ("ingress.controller", "apache", "controller"),
        ("httpRoute.enabled", True, "httpRoute.parentRefs is missing"),
        ("gateway.autoscaling", {"enabled": True, "maxReplicas": 1}, "maxReplicas is below"),
        ("gateway.rollingUpdate", {"maxSurge": 0, "maxUnavailable": 0}, "could ever be replaced"),
        ("image.digest", "sha256:abc", "digest"),
    ],
)
def test_a_wrong_value_is_named(path: str, value: object, expected: str) -> None:
    """A misspelt or impossible value stops the rendering with a message that names it."""
    with pytest.raises(HelmError) as raised:
        render(changed(INLINE, path, value))
    assert expected in str(raised.value)
    assert not SECRETS.search(str(raised.value))


def test_the_schema_knows_the_values_that_there_are() -> None:
    """values.schema.json and values.yaml name the same values."""

    def paths(properties: dict[str, Any], prefix: str = "") -> set[str]:
        found = set()
        for key, schema in properties.items():
            inner = schema.get("properties") if key != "settings" else None
            found |= paths(inner, f"{prefix}{key}.") if inner else {prefix + key}
        return found

    def defaults(values: dict[str, Any], prefix: str = "") -> set[str]:
        found = set()
        for key, value in values.items():
            is_inner = isinstance(value, dict) and value and f"{prefix}{key}." in inner_paths
            found |= defaults(value, f"{prefix}{key}.") if is_inner else {prefix + key}
        return found

    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    known = paths(schema["properties"]) - {"global"}
    inner_paths = {path[: match.end()] for path in known for match in re.finditer(r"\.", path)}
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    there = defaults(values)
    # A resource's requests and limits need not all have a default.
    assert there <= known
    assert {path for path in known - there if ".resources." not in path} == set()


def test_the_readme_is_made_from_the_values() -> None:
    """helm/README.md is what make_readme.py writes, and explains every value."""
    made = subprocess.run(
        [sys.executable, "-c", "import make_readme; print(make_readme.readme(), end='')"],
        cwd=CHART, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (CHART / "README.md").read_text(encoding="utf-8") == made.stdout


@pytest.mark.parametrize("changes", TOGGLES)
def test_the_environment_is_taken_as_settings(
    changes: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the pods get are settings that exist, with values that relay and gateway accept."""
    rendered = manifests(toggled(changes))
    for name, pod in pods(rendered).items():
        kind: type[GatewaySettings | RelaySettings]
        if name.endswith("-gateway"):
            kind = GatewaySettings
        elif name.endswith("-relay"):
            kind = RelaySettings
        else:
            continue
        with monkeypatch.context() as patch:
            for variable, value in environment(pod, rendered, {}).items():
                if variable.endswith("_PASSWORD_FILE"):
                    assert value == "/etc/ayb/password/password"  # which is in the pod only
                    continue
                if variable.startswith("OTEL_"):
                    continue  # OpenTelemetry's own
                assert variable.removeprefix("AYB_").lower() in kind.model_fields
                patch.setenv(variable, value)
            load_settings(kind)


BOUNDS = {
    "gateway.poolConnections": "AYB_REALTIME_POOL_CONNECTIONS",
    "gateway.drainSeconds": "AYB_REALTIME_DRAIN_SECONDS",
    "gateway.drainDelaySeconds": "AYB_REALTIME_DRAIN_DELAY_SECONDS",
    "realtime.retentionSeconds": "AYB_REALTIME_RETENTION_SECONDS",
    "realtime.outboxBytes": "AYB_REALTIME_OUTBOX_BYTES",
    "realtime.maxRecordBytes": "AYB_REALTIME_MAX_RECORD_BYTES",
    "realtime.maxConnections": "AYB_REALTIME_MAX_CONNECTIONS",
    "realtime.maxConnectionsPerUser": "AYB_REALTIME_MAX_CONNECTIONS_PER_USER",
}


@pytest.mark.parametrize("path", BOUNDS)
def test_the_least_value_is_one_that_the_pods_accept(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the schema lets through does not end as a pod that refuses to start."""
    group, value = path.split(".")
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    least = schema["properties"][group]["properties"][value]["minimum"]
    rendered = manifests(changed(INLINE, path, least))
    variables = {
        name: text
        for pod in ("demo-ayb-realtime-gateway", "demo-ayb-realtime-relay")
        for name, text in environment(pods(rendered)[pod], rendered, {}).items()
    }
    assert float(variables[BOUNDS[path]]) == least
    monkeypatch.setenv(BOUNDS[path], variables[BOUNDS[path]])
    for kind, needed in (
        (GatewaySettings, ("AYB_READ_DATABASE_URL", "AYB_AUTH_JWT_SECRET")),
        (RelaySettings, ("AYB_DATABASE_URL",)),
    ):
        with monkeypatch.context() as patch:
            patch.setenv("AYB_REDIS_URL", "redis://redis")
            for name in needed:
                patch.setenv(name, variables[name])
            load_settings(kind)


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [
        ("http://collector.monitoring:4318", 4318),
        ("https://otlp.example.com/team", 443),
        ("http://collector", 80),
        ("", 4318),
    ],
)
def test_traces(endpoint: str, port: int) -> None:
    """Relay and gateways trace by the same share, and may reach the collector; nothing else may."""
    header = {"name": "OTEL_EXPORTER_OTLP_HEADERS", "value": "key=1"}
    traced = changed(INLINE, "traces", {"ratio": 0.001, "endpoint": endpoint, "env": [header]})
    rendered = manifests(changed(traced, "networkPolicy.enabled", True))
    for name, pod in pods(rendered).items():
        variables = {
            variable["name"]: variable.get("value") for variable in pod["containers"][0]["env"]
        }
        if name.endswith(("-gateway", "-relay")):
            assert variables["AYB_TRACES_RATIO"] == "0.001"
            assert variables.get("OTEL_EXPORTER_OTLP_ENDPOINT", "") == endpoint
            assert variables["OTEL_EXPORTER_OTLP_HEADERS"] == "key=1"
        else:
            assert "AYB_TRACES_RATIO" not in variables
    allowed = {
        manifest["metadata"]["name"].rpartition("-")[2]
        for manifest in rendered
        if manifest["kind"] == "NetworkPolicy"
        and {"ports": [{"port": port}]} in manifest["spec"]["egress"]
    }
    assert allowed == {"gateway", "relay"}


def test_secrets_stay_in_secrets() -> None:
    """What is secret stands in Secrets only, never in NOTES, pods or the other objects."""
    for template, text in render(INLINE).items():
        for document in text.split("\n---\n"):
            if "kind: Secret" not in document:
                assert not SECRETS.search(document), template


def test_a_pod_has_time_to_drain() -> None:
    """The grace period is longer than the wait before the drain and the drain together."""
    values = changed(changed(INLINE, "gateway.drainSeconds", 100), "gateway.drainDelaySeconds", 20)
    rendered = manifests(values)
    pod = pods(rendered)["demo-ayb-realtime-gateway"]
    assert pod["terminationGracePeriodSeconds"] == 130
    assert environment(pod, rendered, {})["AYB_REALTIME_DRAIN_SECONDS"] == "100"


def test_alive_is_asked_apart_from_ready() -> None:
    """A database that is away takes pods out of the balancer, and restarts none."""
    for name, pod in pods(manifests(INLINE)).items():
        for container in pod["containers"]:
            if name.endswith(("-gateway", "-relay")):
                assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
                assert container["startupProbe"]["httpGet"]["path"] == "/healthz"
                assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_a_follower_has_no_relay() -> None:
    """A further region gets gateways alone."""
    rendered = manifests(example("values-region-follower.yaml"))
    assert [
        name for name in pods(rendered) if "relay" in name.removeprefix("demo-ayb-realtime-")
    ] == []


def test_changed_secrets_roll_the_pods() -> None:
    """A changed inline secret changes the pods' template, so that a rollout follows."""

    def annotations(values: dict[str, Any]) -> list[Any]:
        return [
            manifest["spec"]["template"]["metadata"]["annotations"]
            for manifest in manifests(values)
            if manifest["kind"] == "Deployment"
        ]

    other = changed(INLINE, "busKey.value", "another key of the bus, of 32 characters")
    assert annotations(INLINE) == annotations(INLINE)
    assert all(a != b for a, b in zip(annotations(INLINE), annotations(other), strict=True))


def test_alerts_and_dashboard_name_metrics_that_exist() -> None:
    """Every series in the alerts and the dashboard is one that relay or gateway has."""
    known = {
        sample
        for text in (generate_latest(GatewayMetrics().registry), RelayMetrics().page())
        for family in text_string_to_metric_families(text.decode())
        for sample in (family.name, f"{family.name}_total", f"{family.name}_bucket")
    }
    for name in ("alerts.yaml", "dashboard.json"):
        text = (CHART / "files" / name).read_text(encoding="utf-8")
        expressions = re.findall(r'(?:expr: |"expr": ")(.*)', text)
        assert expressions
        for expression in expressions:
            assert set(re.findall(r"\bayb_\w+", expression)) <= known, expression


def test_alerts_fire_when_they_should(require: Requirements, tmp_path: Path) -> None:
    """promtool accepts the rules; each alert fires on what it is about, and on nothing else."""
    promtool = require.program("promtool", package="prometheus")
    rules = CHART / "files/alerts.yaml"
    subprocess.run([promtool, "check", "rules", rules], check=True, capture_output=True)
    quiet = {
        'ayb_relay_leading{instance="r1"}': "1x30",
        'ayb_relay_leading{instance="r2"}': "0x30",
        'ayb_relay_outbox_bytes{instance="r1"}': "1000x30",
        'ayb_holding{instance="g1"}': "0x30",
        'ayb_behind_seconds{instance="g1"}': "0.1x30",
        'ayb_bus_pushing{instance="g1"}': "1x30",
        'ayb_stale{instance="g1"}': "0x30",
        'ayb_rival_relays{instance="g1"}': "0x30",
    }
    cases = {
        "AybNoActiveRelay": {'ayb_relay_leading{instance="r1"}': "0x30"},
        "AybOutboxOverBound": {'ayb_relay_outbox_bytes{instance="r1"}': "20000000000x30"},
        "AybEventsHeld": {'ayb_holding{instance="g1"}': "1x30"},
        "AybBehind": {'ayb_behind_seconds{instance="g1"}': "9x30"},
        "AybVisibilityDiffers": {'ayb_visibility_differences_total{table="t"}': "0+1x30"},
        "AybVisibilityUnchecked": {
            'ayb_visibility_unchecked_total{table="t",sqlstate="57014"}': "0+1x30"
        },
        "AybNoTicks": {'ayb_bus_pushing{instance="g1"}': "0x30"},
        "AybStale": {'ayb_stale{instance="g1"}': "1x30"},
        "AybRivalRelays": {'ayb_rival_relays{instance="g1"}': "1x30"},
        "AybForeignMessages": {'ayb_bus_messages_foreign_total{instance="g1"}': "0+1x30"},
    }
    named = yaml.safe_load(rules.read_text(encoding="utf-8"))["groups"][0]["rules"]
    assert [rule["alert"] for rule in named] == list(cases)
    for alert, series in {"": {}, **cases}.items():
        written = {
            "rule_files": [str(rules)],
            "evaluation_interval": "1m",
            "tests": [
                {
                    "interval": "1m",
                    "input_series": [
                        {"series": name, "values": values}
                        for name, values in {**quiet, **series}.items()
                    ],
                    "promql_expr_test": [
                        {
                            "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}})',
                            "eval_time": "25m",
                            "exp_samples": [{"labels": "{}", "value": 1}] if name == alert else [],
                        }
                        for name in cases
                    ],
                }
            ],
        }
        file = tmp_path / "test.yaml"
        file.write_text(yaml.safe_dump(written), encoding="utf-8")
        done = subprocess.run(
            [promtool, "test", "rules", file], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (alert, done.stdout, done.stderr)
