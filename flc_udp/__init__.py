"""Federated Lightweight Chat on UDP: chat rooms with no server in the middle."""

__version__ = "0.1.0"
