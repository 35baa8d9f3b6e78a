"""The client whose calls return when they are done. Written by `make client` from `trainyard.client.asynchronous`."""
