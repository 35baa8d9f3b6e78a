"""The routes that tell why a network answers as it does, what it has learned, and how far it can be trusted."""
