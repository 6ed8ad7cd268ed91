"""Writes helm/README.md from values.yaml: `python helm/make_readme.py`.

Each value of values.yaml stands on a line with its comment; a test insists that the README is what
this makes of them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
_LINE = re.compile(r"^(?P<indent> *)(?P<key>[\w-]+):(?P<value>[^#]*?)(?:  # (?P<comment>.*))?$")

HEAD: Final = """\
# Helm chart of ayb-realtime

Gateways, a relay with a standby, and what belongs to them. Kubernetes 1.28 or newer, Helm 3.14 or 4.

```sh
kubectl create secret generic ayb-realtime \\
  --from-literal=relay='postgresql://ayb_relay:...@postgres/app' \\
  --from-literal=gateway='postgresql://ayb_gateway:...@postgres/app' \\
  --from-literal=jwt="$(openssl rand -hex 32)"
helm install ayb-realtime ./helm -f helm/examples/values-single.yaml
helm test ayb-realtime
```

The database needs its roles first: `docs/deploy.md` says how, and how large to make things, what
happens in a failover, and what hosted Postgres needs. The Secret above is named in the values; so is
everything that is secret (`existingSecret`). Values given inline work too, but end up in Helm's
release record.

| example | for |
|---|---|
| `examples/values-single.yaml` | a first look, with a Valkey beside it |
| `examples/values-production.yaml` | one region: read replica, TLS, bus key, scaling, network policies, alerts |
| `examples/values-region-follower.yaml` | a further region: gateways alone |
| `examples/values-redis-sentinel.yaml` | a Redis or Valkey whose master Sentinels name |
| `examples/values-external-secrets.yaml` | Secrets from a vault, passwords that rotate without a restart |
| `examples/values-with-ayb.yaml` | beside an AllYourBase server under one host name |
| `examples/ingress-*.yaml` | Traefik, HAProxy, AWS ALB, GKE: with `-f` after one of the others |

**What restarts.** A changed value restarts the pods that use it. A changed Secret of yours does not:
run `kubectl rollout restart`, or let a controller do it (`gateway.annotations`, `relay.annotations`).
Passwords in files (`passwordSecret`) need no restart at all.

**How a pod ends.** A gateway pod serves on for `gateway.drainDelaySeconds` without being ready, so that
load balancers drop it. Then it closes its streams one after the other over `gateway.drainSeconds`, and
their clients continue elsewhere where they were. The pod's grace period is computed from both. A relay
pod ends at once, and another one leads.

**Every setting.** What has no value here is set by its name in `gateway.settings` and
`relay.settings`; `docs/settings.md` explains them. `extraEnv` takes variables with `valueFrom`.

**What was tested.** Every example is linted, rendered by Helm's own engine, validated strictly against
the schemas of Kubernetes 1.28 to 1.37, and checked against policies for pods. The pods' commands and
environment are run as processes against a real Postgres and Valkey, behind a proxy configured from the
Ingress, beside the previous release. It has not been run on a cluster by its authors.

## Values

| value | default | meaning |
|---|---|---|
"""


def rows(text: str) -> list[tuple[str, str, str]]:
    """List the values that have a comment, as (path, default, meaning)."""
    found = []
    path: list[str] = []
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None or line.lstrip().startswith("#"):
            continue
        depth = len(match["indent"]) // 2
        path = [*path[:depth], match["key"]]
        if match["comment"]:
            found.append((".".join(path), match["value"].strip(), match["comment"]))
    return found


def readme() -> str:
    """Return the text of the README."""
    text = (FOLDER / "values.yaml").read_text(encoding="utf-8")
    table = "".join(
        f"| `{path}` | {f'`{default}`' if default else ''} | {meaning} |\n"
        for path, default, meaning in rows(text)
    )
    return HEAD + table


if __name__ == "__main__":
    (FOLDER / "README.md").write_text(readme(), encoding="utf-8")
