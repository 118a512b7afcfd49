"""The client of a node's control socket: the command line, bots and benchmarks speak through it.

    client = await Client.connect("/run/flc/control.sock")
    said = await client.say("ops", "hello", author="ann")   # It is durable on the node's disk now.
    async for shown in client.follow("ops", last=10):
        print(shown.message["author"], shown.message["body"])

Promise: requests are pipelined on one connection and answered by id, says of one turn share
requests, the requests of one turn are one write, and nothing here grows without limit.
"""

from flc_udp.client.client import Client, Shown
from flc_udp.client.connection import DaemonGoneError, Stream
from flc_udp.client.said import BodiesRefusedError, Record, Said, SaidMany

__all__ = [
    "BodiesRefusedError",
    "Client",
    "DaemonGoneError",
    "Record",
    "Said",
    "SaidMany",
    "Shown",
    "Stream",
]
