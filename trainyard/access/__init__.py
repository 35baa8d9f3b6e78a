"""Who may do what: API keys, their scopes, and the secret with which sessions are signed."""
