"""A real Prometheus scrapes a gateway and a relay, and evaluates the alerts and the dashboard."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from devstack.ports import free_port
from devstack.process import Child
from tests.support.chart import CHART
from tests.support.stack import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.requirements import Requirements
    from tests.support.stack import Stack
    from tests.support.stack_fixtures import StartStack

NOTES = """
CREATE TABLE notes (id int PRIMARY KEY);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
GRANT SELECT ON notes TO ayb_authenticated;
CREATE POLICY anyone ON notes USING (true);
"""
ALERTS = CHART / "files/alerts.yaml"
DASHBOARD = CHART / "files/dashboard.json"
METRIC = re.compile(r"\bayb_\w+")
SUFFIX = re.compile(r"_(bucket|count|sum|total|created)$")


def expressions() -> dict[str, str]:
    """Every expression of the rules and the dashboard, by what it is for."""
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    found = {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}

    def walk(panels: list[dict[str, Any]]) -> None:
        for panel in panels:
            walk(panel.get("panels", []))
            for number, target in enumerate(panel.get("targets", [])):
                found[f"{panel['title']} {number}"] = target["expr"]

    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    walk(dashboard["panels"])
    names = [variable["name"] for variable in dashboard.get("templating", {}).get("list", [])]
    for name, expression in found.items():
        text = re.sub(r"\$__(rate_interval|interval|range)\b", "1m", expression)
        for variable in names:
            text = re.sub(rf"\$\{{?{variable}\b\}}?", ".*", text)
        found[name] = text
    return found


class Prometheus:
    """A Prometheus that scrapes some addresses every second."""

    def __init__(self, program: Path, folder: Path, targets: dict[str, int]) -> None:
        self.port = free_port()
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(ALERTS)],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
                for job, port in targets.items()
            ],
        }
        file = folder / "prometheus.yml"
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        self.child = Child(
            "prometheus",
            [program, f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}",
             f"--web.listen-address=127.0.0.1:{self.port}"],
            log=folder / "prometheus.log",
        )  # fmt: skip

    async def get(self, path: str, **parameters: str) -> Any:
        """Ask the HTTP API; return the data of its answer."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}"
        async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
            answer = (await http.get(url, params=parameters)).json()
        assert answer["status"] == "success", (parameters, answer)
        return answer["data"]

    async def scraped(self, jobs: int) -> None:
        """Wait until every target has been scraped, and every rule evaluated."""
        async with asyncio.timeout(60):
            while True:
                assert self.child.is_running, self.child.output()[-2000:]
                try:
                    targets = (await self.get("targets"))["activeTargets"]
                    rules = [r for g in (await self.get("rules"))["groups"] for r in g["rules"]]
                except httpx.TransportError:
                    targets = rules = []
                health = [t["health"] for t in targets]
                evaluated = [r["evaluationTime"] > 0 for r in rules]
                if health == ["up"] * jobs and evaluated and all(evaluated):
                    return
                await asyncio.sleep(0.2)


@pytest.fixture
def program(require: Requirements) -> Path:
    """The server, of Debian's package."""
    return require.program("prometheus", package="prometheus")


async def test_every_expression_is_of_known_series(
    program: Path, start_stack: StartStack, tmp_path: Path
) -> None:
    """Both management ports are scraped; every rule is healthy, and every series of the rules and
    the dashboard is one that Prometheus has got from them.
    """
    management = free_port()
    stack: Stack = await start_stack(gateway={"AYB_MANAGEMENT_PORT": str(management)})
    await stack.create(NOTES, "notes")
    async with stack.stream("notes", token=stack.token()) as client:
        await client.connected()
        await stack.sql("INSERT INTO notes VALUES (1)")
        await client.next_message()
        relay = int(stack.environment("relay")["AYB_RELAY_PORT"])
        prometheus = Prometheus(program, tmp_path, {"gateway": management, "relay": relay})
        try:
            await prometheus.scraped(jobs=2)
            known = set(await prometheus.get("metadata"))
            rules = [r for g in (await prometheus.get("rules"))["groups"] for r in g["rules"]]
            assert {rule["health"] for rule in rules} == {"ok"}, rules
            for name, expression in expressions().items():
                await prometheus.get("query", query=expression)
                used = set(METRIC.findall(expression))
                assert used, name
                unknown = {m for m in used if m not in known and SUFFIX.sub("", m) not in known}
                assert unknown == set(), (name, expression)
            # The dashboard's count of open streams is that of the one client.
            [streams] = (await prometheus.get("query", query="sum(ayb_streams_open)"))["result"]
            assert streams["value"][1] == "1"
            for expression in (
                'sum(ayb_streams{state="live"})',
                "sum(ayb_changes_received_total)",
                "sum(ayb_events_sent_total)",
                'sum(ayb_delivery_seconds_count{path="live", form="joined"})',
                'sum(ayb_visibility_cohorts_total{form="joined"})',
                'sum(ayb_visibility_questions_total{form="joined"})',
            ):
                [found] = (await prometheus.get("query", query=expression))["result"]
                assert found["value"][1] == "1", expression
        finally:
            await asyncio.to_thread(prometheus.child.stop)


def _configs() -> dict[str, str]:
    compose = yaml.safe_load((PROJECT / "compose.yaml").read_text(encoding="utf-8"))
    return {name: config["content"] for name, config in compose["configs"].items()}


def test_the_configuration_of_compose(require: Requirements, tmp_path: Path) -> None:
    """promtool accepts the configuration that compose.yaml gives to Prometheus."""
    promtool = require.program("promtool", package="prometheus")
    text = _configs()["prometheus"].replace("/etc/prometheus/alerts.yaml", str(ALERTS))
    assert str(ALERTS) in text
    file = tmp_path / "prometheus.yml"
    file.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [promtool, "check", "config", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_provisioning_of_grafana() -> None:
    """compose.yaml puts the dashboard where Grafana looks for it, with the source it names."""
    configs = _configs()
    compose = yaml.safe_load((PROJECT / "compose.yaml").read_text(encoding="utf-8"))
    grafana = compose["services"]["grafana"]
    targets = {config["source"]: config["target"] for config in grafana["configs"]}
    root = "/etc/grafana/provisioning"
    assert targets["grafana-datasource"].startswith(f"{root}/datasources/")
    assert targets["grafana-dashboards"].startswith(f"{root}/dashboards/")
    [source] = yaml.safe_load(configs["grafana-datasource"])["datasources"]
    assert source["url"] == "http://prometheus:9090"
    [provider] = yaml.safe_load(configs["grafana-dashboards"])["providers"]
    [mounted] = [volume.split(":") for volume in grafana["volumes"]]
    assert (PROJECT / mounted[0]).resolve() == DASHBOARD
    assert Path(mounted[1]).parent == Path(provider["options"]["path"])
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert dashboard["uid"]

    def sources(value: Any) -> Iterator[Any]:
        if isinstance(value, dict):
            if "datasource" in value:
                yield value["datasource"]
            for inner in value.values():
                yield from sources(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from sources(inner)

    variables = {
        f"${{{v['name']}}}" for v in dashboard.get("templating", {}).get("list", [])
        if v["type"] == "datasource"
    }  # fmt: skip
    for named in sources(dashboard):
        if isinstance(named, dict) and named.get("type") == "prometheus":
            assert named.get("uid", source["uid"]) in {source["uid"], *variables}
