"""`flc keygen`: a key is 32 bytes of the system's randomness, as one line of base64."""

from __future__ import annotations

import argparse
import base64
import secrets

KEY_BYTES = 32
"""AES-256 keys are derived from it."""


def add_keygen(parser: argparse.ArgumentParser) -> None:
    """It has no arguments of its own."""


def keygen(_args: argparse.Namespace) -> int:
    """Print a new key."""
    print(base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode())
    return 0
