"""What a training run will do and cost, told before it is queued."""
