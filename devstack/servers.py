"""The embedded servers, and ports for them."""

from devstack.ports import check_port, free_port
from devstack.postgres import PostgresServer
from devstack.valkey import ValkeyServer

__all__ = ["PostgresServer", "ValkeyServer", "check_port", "free_port"]
