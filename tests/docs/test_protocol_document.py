"""docs/protocol.md names every refusal and every control frame."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.errors import GatewayError
from gateway.streams import sse

DOCUMENT = Path(__file__).parents[2] / "docs/protocol.md"


def refusals(kind: type[GatewayError] = GatewayError) -> list[type[GatewayError]]:
    """All kinds of refusals, in the tree below one."""
    found = []
    for child in kind.__subclasses__():
        found += [child, *refusals(child)]
    return found


@pytest.mark.parametrize("refusal", refusals(), ids=lambda refusal: refusal.__name__)
def test_every_refusal_is_documented(refusal: type[GatewayError]) -> None:
    """A refusal's status and message stand together on the page."""
    message = str(refusal.__doc__)
    items = re.split(r"\n(?=[|*\n])", DOCUMENT.read_text(encoding="utf-8"))
    texts = [item.replace("\n", " ") for item in items]
    assert any(message in text and str(refusal.status) in text for text in texts)


def test_every_control_frame_is_documented() -> None:
    """The table of control frames names exactly the events that are sent."""
    source = Path(sse.__file__).read_text(encoding="utf-8")
    sent = set(re.findall(r"_control\(\s*\"(\w+)\"", source))
    table = re.findall(r"^\| `(\w+)` \| `\{", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(sent) > 5
    assert set(table) == sent
