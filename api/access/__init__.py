"""Who sends a request: keys, sessions, and what each may do."""
