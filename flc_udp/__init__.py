"""Federated Lightweight Chat on UDP: rooms kept together by servers with no server in the middle."""

__version__ = "0.1.0"
