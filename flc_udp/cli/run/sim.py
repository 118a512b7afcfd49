"""`flc sim`: hands what was typed to the simulator."""

import argparse


def add_sim(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that the simulator describes."""
    from flc_udp.sim import run as simulator

    simulator.add_arguments(parser)


def sim(args: argparse.Namespace) -> int:
    """Run the simulator."""
    from flc_udp.sim import run as simulator

    return simulator.main(args)
