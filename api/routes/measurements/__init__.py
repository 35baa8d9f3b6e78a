"""What jobs' trainers measured and wrote: series, curves and logs."""
