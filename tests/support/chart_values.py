"""Values of the chart for its tests: everything given inline, and toggles that change them."""

from __future__ import annotations

from typing import Any

from tests.support.chart import changed

INLINE = {
    "database": {
        "relay": {"url": "postgresql://ayb_relay:relay-password@db/app"},
        "gateway": {"url": "postgresql://ayb_gateway:gateway-password@db/app"},
    },
    "redis": {"urls": ["redis://:redis-password@redis", "redis://:other-password@far"]},
    "auth": {"jwtSecret": {"value": "a secret of the tokens, 32 characters"}},
    "busKey": {"value": "a key of the bus, of 32 characters"},
    "migrations": {"enabled": True, "url": "postgresql://owner:owner-password@db/app"},
}

TOGGLES: list[dict[str, object]] = [
    {},
    {"httpRoute.enabled": True, "httpRoute.parentRefs": [{"name": "edge"}]},
    {"valkey.enabled": True, "networkPolicy.enabled": True},
    {"gateway.autoscaling.enabled": True, "gateway.autoscaling.targetStreams": 5000},
    {"serviceAccount.create": False, "gateway.drainDelaySeconds": 0},
    {"image.digest": "sha256:" + "0" * 64, "image.pullSecrets": ["registry"]},
    {"database.tls.existingSecret": "ca", "redis.tls.existingSecret": "ca"},
    {"auth.enabled": False, "tests.enabled": False},
    {"auth.anonRole": "anon", "auth.roleClaim": "role", "auth.roles": ["editor"]},
    {"metrics.serviceMonitor.enabled": True, "metrics.prometheusRule.enabled": True},
    {"metrics.dashboard.enabled": True, "commonLabels": {"team": "realtime"}},
    {"realtime.tables": ["public.*", "!public.audit"], "realtime.channelPrefix": "app"},
    {"database.gateway.passwordSecret": "login", "database.relay.passwordSecret": "login"},
    {"gateway.settings": {"AYB_REALTIME_RING_BYTES": 134217728, "AYB_REALTIME_VERIFY": 0.5}},
    {"relay.settings": {"AYB_RELAY_NOTIFY": "off"}, "migrations.passwordSecret": "login"},
    {
        "tests.table": "posts",
        "tests.sql": "UPDATE posts SET title = 'a \"b\"'",
        "tests.claims": {"a": 1},
    },
    {"tests.table": "posts", "tests.token.value": "token", "networkPolicy.enabled": True},
    {"ingress.enabled": True, "ingress.host": "a.example", "ingress.extraHosts": ["b.example"]},
    {
        "redis.urls": ["redis+sentinel://a:26379,b:26379/main", "redis://far"],
        "networkPolicy.enabled": True,
        "networkPolicy.sentinelPort": 26379,
    },
    {
        "auth.apiKeys": True,
        "auth.revocationRedis.url": "redis://:other-password@sessions",
        "gateway.aybServerUrl": "http://ayb:8090",
        "gateway.console": True,
        "region": "eu",
    },
    {
        "traces.ratio": 0.05,
        "traces.endpoint": "http://collector.monitoring:4318",
        "traces.env": [{"name": "OTEL_EXPORTER_OTLP_COMPRESSION", "value": "gzip"}],
        "networkPolicy.enabled": True,
    },
    {"auth.claimSettings": {"ayb.tenant_id": "org_id", "app.team": "app_metadata.team"}},
    {"gateway.service.type": "NodePort", "gateway.service.nodePort": 30090},
    {"auth.explainSecret.value": "a secret of the operator, 32 characters"},
    {
        "gateway.extraVolumes": [{"name": "keys", "configMap": {"name": "keys"}}],
        "gateway.extraVolumeMounts": [{"name": "keys", "mountPath": "/etc/keys"}],
        "gateway.annotations": {"reloader.stakater.com/auto": "true"},
        "relay.annotations": {"reloader.stakater.com/auto": "true"},
    },
]


def toggled(changes: dict[str, object]) -> dict[str, Any]:
    values: dict[str, Any] = INLINE
    for path, value in changes.items():
        values = changed(values, path, value)
    return values
