"""`flc sim`: hands its line to the simulator, which is imported only for this command."""

from __future__ import annotations

import argparse


def add_sim(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that the simulator describes."""
    from flc_udp.sim import run

    run.add_arguments(parser)


def sim(args: argparse.Namespace) -> int:
    """Run the simulator."""
    from flc_udp.sim import run

    return run.main(args)
