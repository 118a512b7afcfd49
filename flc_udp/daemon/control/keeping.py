"""The name of the control socket: while the node runs it leads to the node, or is made again."""

import asyncio

from flc_udp.daemon.control.server import Control
from flc_udp.daemon.failures import Failures
from flc_udp.daemon.notices import SocketMadeAgain, WriteFailed
from flc_udp.daemon.stderr import tell
from flc_udp.model.errors import FlcError
from flc_udp.store.directory import DataDirectory

LOOK_S = 2.0
"""It is looked at this often."""


async def keep_socket(directory: DataDirectory, control: Control, failures: Failures) -> None:
    """Listen anew where the socket was deleted or replaced, until cancelled."""
    told = ""
    while True:
        await asyncio.sleep(LOOK_S)
        try:
            if directory.has_lost_control():
                await control.listen(directory.bind_control())
                tell(SocketMadeAgain(directory.path))
                told = ""
        except FlcError as error:
            if str(error) != told:
                tell(WriteFailed(told := str(error)))
        except Exception as error:  # noqa: BLE001  # the next look may do
            failures.of_part("the control socket", error)
