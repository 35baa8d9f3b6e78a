"""The client whose calls are awaited. `trainyard.client.synchronous` is written from it by `make client`."""
