"""Asyncio turns it: the socket, the writer thread, the control socket, signals and logs."""
