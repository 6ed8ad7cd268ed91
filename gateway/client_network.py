"""Which address a request comes from, and which addresses are one client."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def client_address(scope: Mapping[str, Any]) -> str:
    """Return the address that a request comes from; empty where the server does not know it."""
    client = scope.get("client")
    return client[0] if client else ""


def network_of(address: str) -> str:
    """Name the network that one client controls: an IPv4 address, or an IPv6 /64."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((ip, 64), strict=False))
