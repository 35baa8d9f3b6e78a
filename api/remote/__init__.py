"""The border between the web processes and the engine process: messages over a local socket, and the calls in them."""
