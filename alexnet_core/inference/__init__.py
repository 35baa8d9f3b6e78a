"""Inference without torch: reads checkpoints, prepares pixels, and computes networks with OpenVINO."""
