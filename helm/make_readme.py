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

The database needs its roles first: `docs/deploy.md` says how. Complete values for common cases are in
`examples/`: `values-single.yaml` to try it, `values-production.yaml`, `values-region-follower.yaml`
for a further region, `values-with-ayb.yaml` beside an AllYourBase server, and `ingress-*.yaml` for each
ingress controller.

Secrets are best given by name (`existingSecret`): values that are given inline end up in Helm's
release record. With the External Secrets operator, let an ExternalSecret make the Secret, and name
it here. A changed Secret of yours needs `kubectl rollout restart`; a changed value rolls by itself.

When a gateway pod ends it serves on for `gateway.drainDelaySeconds` without being ready, so that load
balancers drop it, then closes its streams one after the other over `gateway.drainSeconds`; their clients go on elsewhere where they
were. The pod's grace period is computed from both.

What was tested: every example is linted, rendered by Helm's own engine, and validated strictly against
the schemas of Kubernetes 1.28 to the newest; the pods' commands and environment are run as processes
against a real Postgres and Valkey. It has not been run on a cluster by its authors.

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
