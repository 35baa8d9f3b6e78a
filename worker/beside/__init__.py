"""What kinds of leased work beside training have in common: their thread, their heartbeats, their child process."""
