"""Jobs: their states, events, metrics and logs."""
