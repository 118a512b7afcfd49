"""A disk that stands still while a test wants it to: no commit ends meanwhile."""

from __future__ import annotations

from pathlib import Path

FAULT = """
import pathlib, time
from flc_udp.store.log import Log
append = Log.append
def slowly(log, *args, **kwargs):
    while pathlib.Path({stop!r}).exists():
        time.sleep(0.02)
    return append(log, *args, **kwargs)
Log.append = slowly
"""


class StandingDisk:
    """Put into the code of nodes that are started with its `environ`."""

    def __init__(self, home: Path) -> None:
        faults = home / "faults"
        faults.mkdir()
        self._stop = home / "stop"
        (faults / "sitecustomize.py").write_text(FAULT.format(stop=str(self._stop)))
        self.environ = {"PYTHONPATH": str(faults)}

    def stop(self) -> None:
        """Commits that begin from here on do not end."""
        self._stop.touch()

    def go_on(self) -> None:
        """They end."""
        self._stop.unlink()
