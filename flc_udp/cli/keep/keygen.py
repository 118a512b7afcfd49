"""`flc keygen`: prints a new key, which is 32 bytes of the system's randomness in base64."""

from __future__ import annotations

import argparse
import base64
import secrets

KEY_BYTES = 32
"""The AES-256 keys of a cluster are derived from this many bytes."""


def add_keygen(parser: argparse.ArgumentParser) -> None:
    """Add nothing: `flc keygen` has no arguments of its own."""


def keygen(_args: argparse.Namespace) -> int:
    """Print a new key."""
    print(base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode())
    return 0
