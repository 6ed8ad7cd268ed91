"""What the chart renders for each example, as files, so that a change shows what it changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from tests.support.chart import example, examples, manifests

SNAPSHOTS = Path(__file__).with_name("snapshots")
WRITE = os.environ.get("AYB_TEST_SNAPSHOTS") == "write"
BASE = "values-production.yaml"
LONG_CHARACTERS = 2_000


def snapshot(name: str) -> str:
    """Return the manifests of an example in a stable form.

    Of an example for an ingress controller only those that differ from `values-production.yaml`.
    """
    base = manifests(example(BASE)) if name.startswith("ingress-") else []
    texts = []
    for manifest in manifests(example(name)):
        if manifest in base:
            continue
        for key, value in manifest.get("data", {}).items():
            if len(value) > LONG_CHARACTERS:
                manifest["data"][key] = "left out: it has a file of its own"
        texts.append(yaml.safe_dump(manifest, width=100))
    return "---\n".join(texts)


@pytest.mark.parametrize("name", examples())
def test_the_snapshot_is_what_is_rendered(name: str) -> None:
    """The file of each example is what the chart renders for it: `make snapshots` writes them."""
    file = SNAPSHOTS / name
    rendered = snapshot(name)
    if WRITE:
        SNAPSHOTS.mkdir(exist_ok=True)
        file.write_text(rendered, encoding="utf-8")
    assert file.read_text(encoding="utf-8").splitlines() == rendered.splitlines()


def test_every_snapshot_has_an_example() -> None:
    """A snapshot goes with its example."""
    assert sorted(file.name for file in SNAPSHOTS.iterdir()) == examples()
