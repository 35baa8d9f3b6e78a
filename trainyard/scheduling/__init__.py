"""Which worker trains which job, and when: the order of claims, leases, workers and the queue."""
