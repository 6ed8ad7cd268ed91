"""Which addresses are one client: limits count by network."""

from __future__ import annotations

import ipaddress


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
