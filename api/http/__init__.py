"""What all routes share: errors, middleware, documentation and the server."""
