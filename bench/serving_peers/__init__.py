"""Trainyard's `/predict` beside other model servers, all with the same network on the same machine."""
