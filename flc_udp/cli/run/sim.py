"""`flc sim`: the simulator's own command line, imported only when it is asked for."""

from __future__ import annotations

import argparse


def add_sim(parser: argparse.ArgumentParser) -> None:
    """Arguments as the simulator describes them."""
    from flc_udp.sim import run

    run.add_arguments(parser)


def sim(args: argparse.Namespace) -> int:
    """Run the simulator."""
    from flc_udp.sim import run

    return run.main(args)
