"""What every manifest of the chart must fulfil: one function a policy, each yields its complaints.

They are those of the Pod Security Standard "restricted" and of the usual linters for manifests
(checkov, kube-linter), with the knowledge of what belongs together: which policy covers which pod.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

from tests.support.chart import Manifest

Policy = Callable[[list[Manifest]], Iterator[tuple[str, str]]]
"""From all manifests of a release to complaints: the name of the object, and what is wrong."""

CONTROLLERS: Final = ("Deployment", "StatefulSet", "DaemonSet", "Job")


def _pods(rendered: list[Manifest]) -> Iterator[tuple[str, Manifest, dict[str, str]]]:
    """Yield name, pod specification and labels of whatever makes pods."""
    for manifest in rendered:
        name = f"{manifest['kind']}/{manifest['metadata']['name']}"
        if manifest["kind"] == "Pod":
            yield name, manifest["spec"], manifest["metadata"]["labels"]
        elif manifest["kind"] in CONTROLLERS:
            template = manifest["spec"]["template"]
            yield name, template["spec"], template["metadata"]["labels"]


def _containers(rendered: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    for name, pod, _labels in _pods(rendered):
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            yield name, container


def _is_selected(selector: Manifest, labels: dict[str, str]) -> bool:
    wanted: dict[str, str] = selector["matchLabels"]
    return wanted.items() <= labels.items()


def not_root(rendered: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Pods run as a numbered user that is not root and not one of the host's."""
    for name, pod, _labels in _pods(rendered):
        context = pod.get("securityContext", {})
        if context.get("runAsNonRoot") is not True or context.get("runAsUser", 0) < 10_000:
            yield name, f"runs as {context.get('runAsUser')}"


def seccomp(rendered: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Pods use the runtime's filter of system calls."""
    for name, pod, _labels in _pods(rendered):
        profile = pod.get("securityContext", {}).get("seccompProfile")
        if profile != {"type": "RuntimeDefault"}:
            yield name, f"seccompProfile {profile}"


def no_host(rendered: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Pods use nothing of the host: namespaces, ports, paths."""
    for name, pod, _labels in _pods(rendered):
        for field in {"hostNetwork", "hostPID", "hostIPC"} & pod.keys():
            yield name, field
        for volume in pod.get("volumes", ()):
            if "hostPath" in volume:
                yield name, f"hostPath {volume['name']}"
    for name, container in _containers(rendered):
        if any("hostPort" in port for port in container.get("ports", ())):
            yield name, "hostPort"


def no_api_token(rendered: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Nobody gets a token of the Kubernetes API, nor the addresses of all services."""
    for name, pod, _labels in _pods(rendered):
        if pod.get("automountServiceAccountToken") is not False:
            yield name, "automountServiceAccountToken"
        if pod.get("enableServiceLinks") is not False:
            yield name, "enableServiceLinks"
    for manifest in rendered:
        if manifest["kind"] in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"):
            yield f"{manifest['kind']}/{manifest['metadata']['name']}", "grants rights"


def no_privileges(rendered: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Containers have no capabilities, cannot gain any, and write to no root file system."""
    for name, container in _containers(rendered):
        context = container.get("securityContext", {})
        wanted = {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        for field, value in wanted.items():
            if context.get(field) != value:
                yield name, f"{field} {context.get(field)}"
        if context.get("privileged"):
            yield name, "privileged"


def resources(rendered: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Containers request CPU and memory, and limit both."""
    for name, container in _containers(rendered):
        for kind in ("requests", "limits"):
            for resource in ("cpu", "memory"):
                if resource not in container.get("resources", {}).get(kind, {}):
                    yield name, f"no {resource} in {kind}"


def fixed_images(rendered: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Images are named by a tag that is not moved, or by a digest."""
    for name, container in _containers(rendered):
        image = container["image"]
        _, _, tag = image.rpartition("/")[2].partition(":")
        if "@sha256:" not in image and tag.count(".") != 2:
            yield name, f"image {image}"


def probes(rendered: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Containers that serve have probes for life and readiness, and these differ."""
    for name, container in _containers(rendered):
        if name.startswith(("Job/", "Pod/")):
            continue  # they end
        for probe in ("livenessProbe", "readinessProbe"):
            if probe not in container:
                yield name, f"no {probe}"
        if container.get("livenessProbe", {}).get("httpGet") == container.get(
            "readinessProbe", {}
        ).get("httpGet", {"path": None}):
            yield name, "is restarted when it is not ready"
        ports = {port["name"] for port in container.get("ports", ())}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            for kind in ("httpGet", "tcpSocket"):
                port = container.get(probe, {}).get(kind, {}).get("port")
                if port is not None and port not in ports:
                    yield name, f"{probe} asks {port}, which is no port of it"


def network_policies(rendered: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Where there are network policies, one covers each pod, in both directions."""
    policies = [m["spec"] for m in rendered if m["kind"] == "NetworkPolicy"]
    if not policies:
        return
    for name, _pod, labels in _pods(rendered):
        covering = [p for p in policies if _is_selected(p["podSelector"], labels)]
        if {d for p in covering for d in p["policyTypes"]} != {"Ingress", "Egress"}:
            yield name, "has no network policy for both directions"
    for policy in policies:
        if not any(_is_selected(policy["podSelector"], labels) for _, _, labels in _pods(rendered)):
            yield "NetworkPolicy", f"covers no pod: {policy['podSelector']}"


def disruption_budgets(rendered: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Each budget covers one Deployment; one with several pods has a budget that lets pods go."""
    budgets = [m["spec"] for m in rendered if m["kind"] == "PodDisruptionBudget"]
    for manifest in rendered:
        if manifest["kind"] != "Deployment":
            continue
        name = f"Deployment/{manifest['metadata']['name']}"
        labels = manifest["spec"]["template"]["metadata"]["labels"]
        covering = [b for b in budgets if _is_selected(b["selector"], labels)]
        if manifest["spec"].get("replicas", 2) > 1 and len(covering) != 1:
            yield name, f"has {len(covering)} disruption budgets"
        if any(str(b["maxUnavailable"]) in ("0", "0%") for b in covering):
            yield name, "no node with a pod of it can ever be drained"
        budgets = [b for b in budgets if b not in covering]
    for budget in budgets:
        yield "PodDisruptionBudget", f"covers nothing: {budget['selector']}"


def selectors(rendered: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Deployments, Services, monitors and scalers find what they mean, by labels that stay."""
    deployments = {
        m["metadata"]["name"]: m["spec"]["template"] for m in rendered if m["kind"] == "Deployment"
    }
    for manifest in rendered:
        name = f"{manifest['kind']}/{manifest['metadata']['name']}"
        spec = manifest.get("spec", {})
        if manifest["kind"] == "Deployment":
            chosen = [n for n, t in deployments.items()
                      if _is_selected(spec["selector"], t["metadata"]["labels"])]  # fmt: skip
            if chosen != [manifest["metadata"]["name"]]:
                yield name, f"selects the pods of {chosen}"
            if {"helm.sh/chart", "app.kubernetes.io/version"} & spec["selector"][
                "matchLabels"
            ].keys():
                yield name, "selects by labels that the next release changes"
        elif manifest["kind"] == "Service":
            chosen_pods = [
                template["spec"]
                for template in deployments.values()
                if spec["selector"].items() <= template["metadata"]["labels"].items()
            ]
            if len(chosen_pods) != 1:
                yield name, f"selects {len(chosen_pods)} deployments"
            names = {
                p["name"] for pod in chosen_pods for c in pod["containers"] for p in c["ports"]
            }
            for port in spec["ports"]:
                if port["targetPort"] not in names:
                    yield name, f"no pod has the port {port['targetPort']}"
        elif manifest["kind"] == "HorizontalPodAutoscaler":
            if spec["scaleTargetRef"]["name"] not in deployments:
                yield name, "scales nothing"
        elif manifest["kind"] == "Ingress":
            services = {m["metadata"]["name"] for m in rendered if m["kind"] == "Service"}
            for rule in spec["rules"]:
                for path in rule["http"]["paths"]:
                    if path["backend"]["service"]["name"] not in services:
                        yield name, "leads to no Service"


def unique_names(rendered: list[Manifest]) -> Iterator[tuple[str, str]]:
    """No two objects have one name, no container has a variable or a volume twice."""
    names = Counter((m["apiVersion"], m["kind"], m["metadata"]["name"]) for m in rendered)
    for (_, kind, name), count in names.items():
        if count > 1:
            yield f"{kind}/{name}", f"is there {count} times"
        if len(name) > 63:
            yield f"{kind}/{name}", "has a name of more than 63 characters"
    for name, container in _containers(rendered):
        for what, items in (
            ("variable", [v["name"] for v in container.get("env", ())]),
            ("mount", [v["mountPath"] for v in container.get("volumeMounts", ())]),
        ):
            for item, count in Counter(items).items():
                if count > 1:
                    yield name, f"{what} {item} is there {count} times"
    for name, pod, _labels in _pods(rendered):
        volumes = {volume["name"] for volume in pod.get("volumes", ())}
        mounts = {mount["name"] for c in pod["containers"] for mount in c.get("volumeMounts", ())}
        if volumes != mounts:
            yield name, f"volumes {sorted(volumes)}, mounts {sorted(mounts)}"


def labelled(rendered: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Every object has the labels that Kubernetes recommends."""
    wanted = {"app.kubernetes.io/" + n for n in ("name", "instance", "version", "managed-by")}
    for manifest in rendered:
        labels: dict[str, Any] = manifest["metadata"].get("labels", {})
        if missing := wanted - labels.keys():
            yield f"{manifest['kind']}/{manifest['metadata']['name']}", f"lacks {sorted(missing)}"


def secrets_by_reference(rendered: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Variables that hold secrets refer to a Secret."""
    for name, container in _containers(rendered):
        for variable in container.get("env", ()):
            is_secret = variable["name"].endswith(
                ("_SECRET", "_KEY", "_TOKEN", "DATABASE_URL", "REDIS_URL")
            )
            if is_secret and "value" in variable:
                yield name, f"{variable['name']} is given in the open"


def spread(rendered: list[Manifest]) -> Iterator[tuple[str, str]]:
    """Pods of a Deployment with several prefer different nodes."""
    for manifest in rendered:
        if manifest["kind"] == "Deployment" and manifest["spec"].get("replicas", 2) > 1:
            pod = manifest["spec"]["template"]["spec"]
            if "podAntiAffinity" not in pod.get("affinity", {}):
                yield f"Deployment/{manifest['metadata']['name']}", "may all be on one node"


POLICIES: Final[tuple[Policy, ...]] = (
    not_root, seccomp, no_host, no_api_token, no_privileges, resources, fixed_images, probes,
    network_policies, disruption_budgets, selectors, unique_names, labelled, secrets_by_reference,
    spread,
)  # fmt: skip
