"""The Python client, importable without the database's packages."""

from trainyard.client.client import ApiError as ApiError
from trainyard.client.client import Client as Client
from trainyard.client.client import Json as Json
