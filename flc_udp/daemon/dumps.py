"""No copy of this process's memory, which holds the keys, is written to a disk.

A core dump is one, and so is what another program of the same user may read. Rules. It is best
effort: where the system has no such call, or forbids it, the node runs all the same.
"""

import resource
from contextlib import suppress

PR_SET_DUMPABLE = 4
"""Of prctl(2), for which Python has no function."""


def hide_memory() -> None:
    """Write no core dump from now on, and let no other process of this user read the memory."""
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(ImportError, MemoryError, OSError, AttributeError):
        import ctypes  # noqa: PLC0415  # it fails in a sandbox that forbids executable memory

        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
