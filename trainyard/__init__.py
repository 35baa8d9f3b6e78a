"""Trainyard's database and its rules: what is stored, who may change it, and how the processes find each other.

Imports neither torch nor fastapi, and of `alexnet_core` only `config` and `errors`.
"""

__version__ = "0.1.0"
