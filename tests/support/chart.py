"""The Helm chart, rendered by Helm's own engine."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml
from helm_python.chart import Chart

CHART = Path(__file__).parents[2] / "helm"
EXAMPLES = CHART / "examples"

Manifest = dict[str, Any]
Values = dict[str, Any]


def example(name: str) -> Values:
    """Return the values of an example; one for an ingress stands on those for production."""
    values = _load(EXAMPLES / name)
    if name.startswith("ingress-"):
        return merged(_load(EXAMPLES / "values-production.yaml"), values)
    return values


def examples() -> list[str]:
    """List the examples."""
    return sorted(file.name for file in EXAMPLES.glob("*.yaml"))


def merged(values: Values, changes: Values) -> Values:
    """Lay changes over values, as several `-f` files are laid over each other."""
    result = copy.deepcopy(values)
    for key, value in changes.items():
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            result[key] = merged(old, value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def changed(values: Values, path: str, value: object) -> Values:
    """Set one value, named by its path."""
    *parents, last = path.split(".")
    change: Values = {last: value}
    for parent in reversed(parents):
        change = {parent: change}
    return merged(values, change)


def render(values: Values, folder: Path = CHART) -> dict[str, str]:
    """Render the chart as the release `demo` in the namespace `apps`; texts by template."""
    with Chart.load(folder) as chart:
        return chart.render(values=values, name="demo", namespace="apps")


def manifests(values: Values, folder: Path = CHART) -> list[Manifest]:
    """Render the manifests of the chart in `folder`."""
    return [
        manifest
        for template, text in render(values, folder).items()
        if template.endswith(".yaml")
        for manifest in yaml.safe_load_all(text)
        if manifest
    ]


def pods(rendered: list[Manifest]) -> dict[str, Manifest]:
    """Return the pods' specifications, by the name of what makes them."""
    found = {}
    for manifest in rendered:
        if manifest["kind"] == "Pod":
            found[manifest["metadata"]["name"]] = manifest["spec"]
        elif manifest["kind"] in ("Deployment", "Job"):
            found[manifest["metadata"]["name"]] = manifest["spec"]["template"]["spec"]
    return found


def environment(
    pod: Manifest, rendered: list[Manifest], secrets: dict[str, dict[str, str]]
) -> dict[str, str]:
    """Resolve a pod's environment: `secrets` are those that the values name but the chart lacks."""
    held = {
        manifest["metadata"]["name"]: manifest["stringData"]
        for manifest in rendered
        if manifest["kind"] == "Secret"
    }
    found = {}
    for variable in pod["containers"][0]["env"]:
        if "value" in variable:
            found[variable["name"]] = variable["value"]
        else:
            reference = variable["valueFrom"]["secretKeyRef"]
            found[variable["name"]] = {**held, **secrets}[reference["name"]][reference["key"]]
    return found


_NGINX = "nginx.ingress.kubernetes.io/"
_DIRECTIVES = {
    "proxy-buffering": "proxy_buffering {}",
    "proxy-read-timeout": "proxy_read_timeout {}s",
    "proxy-send-timeout": "proxy_send_timeout {}s",
    "proxy-http-version": "proxy_http_version {}",
    "proxy-next-upstream": "proxy_next_upstream {}",
}


def nginx_server(rendered: list[Manifest]) -> str:
    """Return what ingress-nginx makes of the rendered Ingress, for the upstream `gateways`.

    Raises `KeyError` for an annotation whose directive is not known here.
    """
    [ingress] = [manifest for manifest in rendered if manifest["kind"] == "Ingress"]
    directives = [
        _DIRECTIVES[name.removeprefix(_NGINX)].format(value)
        for name, value in ingress["metadata"]["annotations"].items()
    ]
    [rule] = ingress["spec"]["rules"]
    [path] = rule["http"]["paths"]
    inside = "".join(f"{directive}; " for directive in directives)
    return f"location {path['path']} {{ proxy_pass http://gateways; {inside}}}"


def _load(file: Path) -> Values:
    values: Values = yaml.safe_load(file.read_text(encoding="utf-8"))
    return values
