"""Trainyard's database and its rules: what is stored, who may change it, and how the processes find each other.

Imports neither torch nor fastapi, and of `alexnet_core` only `config` and `errors`.

`from trainyard import Client, AsyncClient` is the Python client.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainyard.client import AsyncClient as AsyncClient
    from trainyard.client import Client as Client

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Return a class of the client, which only who asks for it imports."""
    if name in {"AsyncClient", "Client"}:
        from trainyard import client

        return getattr(client, name)
    raise AttributeError(f"module 'trainyard' has no attribute {name!r}")
