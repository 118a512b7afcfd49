"""Federated Lightweight Chat on UDP: chat rooms with no server in the middle.

For bots: `Client` is the door to a running node, `Said`, `SaidMany` and `Shown` are what comes
through it, and what goes wrong is an `FlcError` with a hint (`flc_udp.client` tells more).
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flc_udp.client import BodiesRefusedError, Client, DaemonGoneError, Said, SaidMany, Shown
    from flc_udp.model.errors import FlcError

__all__ = [
    "BodiesRefusedError",
    "Client",
    "DaemonGoneError",
    "FlcError",
    "Said",
    "SaidMany",
    "Shown",
    "__version__",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # Not before it is asked for: `flc --version` and the daemon do without.
    if name in __all__:
        module = "flc_udp.model.errors" if name == "FlcError" else "flc_udp.client"
        return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
