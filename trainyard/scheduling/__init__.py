"""Which worker trains which job, and when: the claim order, leases, workers and the queue."""
