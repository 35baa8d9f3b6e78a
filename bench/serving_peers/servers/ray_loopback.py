"""Keeps Ray Serve's replicas on this machine: they open a port for each other on all of its addresses, set or not."""

from __future__ import annotations

from typing import Any

from ray.serve._private import replica


def listen_on_loopback() -> None:
    """Change what address replicas listen on. Ray calls this in each of its worker processes, before all else."""
    add_port = replica.add_port_to_grpc_server

    def add_loopback_port(server: Any, address: str) -> Any:
        return add_port(server, address.replace("[::]", "127.0.0.1"))

    replica.add_port_to_grpc_server = add_loopback_port
