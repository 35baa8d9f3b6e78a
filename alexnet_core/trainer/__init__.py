"""The trainer: the child process of a worker that trains one job."""
