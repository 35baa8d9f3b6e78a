"""The Python client, which can be imported without the database's packages."""

from trainyard.client.client import Client as Client
from trainyard.client.client import Json as Json
from trainyard.client.errors import ApiError as ApiError
