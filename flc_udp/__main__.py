"""`python -m flc_udp` is `flc`."""

from flc_udp.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
