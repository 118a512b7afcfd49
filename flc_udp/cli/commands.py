"""The commands of `flc`, each with its module, its line in `flc --help`, and examples.

The table is plain text, so that it looks as the help prints it. An entry begins with the name of
the command, `{}` if it takes `--json`, its module in brackets (as it is imported relative to
`flc_udp.cli`) and its summary. Below are examples that can be typed.
"""

import argparse
import re
from importlib import import_module
from types import ModuleType

from flc_udp.cli.conventions import Parser

TABLE = """
run (run.run): run a node in the foreground
  flc run --name ann --tag role=db
  flc run --data /tmp/ben --bind 127.0.0.1:0 --join 127.0.0.1:7352

nc (talk.nc): netcat for a room: say the lines of stdin, and print what others say
  flc nc ops
  journalctl -f | flc nc -N ops
  flc nc -d --json ops | jq .body

say (talk.say): say one message and print its dot once it is durable here
  flc say ops deploy is done
  git log -1 | flc say ops - --wait all

log {} (look.log): print the converged history of a room, or of all
  flc log ops -n 100
  flc log --since 2h --json | jq -r .author | sort | uniq -c

rooms {} (look.overview): list the rooms
  flc rooms
  flc rooms --json | jq -r .room

members {} (look.overview): list the members of the cluster as this node sees them
  flc members
  flc members --watch
  flc members --tag role=db --json | jq -r .address

status {} (look.overview): say how the node is; exit 1 if it is not healthy
  flc status
  flc status --json | jq .reasons

digest {} (look.overview): print the roots: nodes with equal roots have equal histories and members
  flc digest
  flc digest --json

sync {} (look.sync): compare histories with other nodes now; with -w watch this one catch up
  flc sync
  flc sync ben --watch
  flc sync -w --json | jq .left_s

leave (look.overview): make the node leave the cluster and end its daemon
  flc leave

forget (look.overview): treat a member that is not coming back like one that left
  flc forget ben
  flc forget 86be453a11f3d69b

why {} (look.why): print the causes and clock of a message, or which of two came first
  flc why 9f2c61d0a47be813:17
  flc why 9f2c61d0a47be813:17 1b3d81307eb08ef7:1

fsck {} (keep.fsck): check a node's database, also while the node runs; exit 1 if anything is wrong
  flc fsck
  flc fsck --data /tmp/ann --json | jq -r '.problem // empty'
  flc fsck --repair --data /tmp/ben

backup {} (keep.backup): copy a node's log into one checked file, also while the node runs
  flc backup /backup/ann.db
  flc backup --force --json ann.db | jq -r .root

export (keep.export): print the whole history as JSON lines that `flc import` can read
  flc export > history.jsonl
  flc export ops | jq -r 'select(.dot) | .body'

import {} (keep.imports): read an export into the data directory of a node that is down
  flc import history.jsonl --data /tmp/ann
  ssh ann flc export | flc import - --data /tmp/ben

ping {} (wire.ping): probe a node from outside, with round-trip statistics
  flc ping 127.0.0.1:7352 -c 5
  flc ping --key-file cluster.key ben.example:7352

udp (wire.udp): netcat for the wire: send JSON lines as packets, and decode what comes
  echo '{"kind":"pull","nonce":7,"credit":4096,"graft":false,"after":0,"below":1,\
"wants":[]}' | flc udp -v -w 1 127.0.0.1 7352
  flc udp -z 127.0.0.1 7352 && echo it answers
  flc udp -l 7399 | jq -c .packets
  sudo tcpdump -x -n -i any udp port 7352 | flc udp --decode --key-file cluster.key

doctor {} (look.doctor): check what often goes wrong, and the way to a peer; exit 1 if a check fails
  flc doctor
  flc doctor ben.example:7352
  flc doctor --json | jq 'select(.advice)'

keygen (keep.keys): print a new key for a cluster
  (umask 077; flc keygen > cluster.key); flc run --key-file cluster.key

keys {} (keep.keys): show or change the keys of a running node: the first seals, any opens
  flc keys list
  flc keygen | flc keys add
  flc keys use 5b0c9a1e
  flc keys remove open
  flc keys list --json | jq -r 'select(.seals) | .id'

config (run.run): print a file of all settings to start from, or what is changed here
  flc config --example > flc.toml
  flc config --config flc.toml

completion (run.completion): print a script with which a shell completes commands, rooms and members
  source <(flc completion bash)
  mkdir -p ~/.zfunc && flc completion zsh > ~/.zfunc/_flc
  flc completion fish | source

demo (run.demo): show a cluster in one terminal: chat, kill -9, catch up, equal histories
  flc demo
  flc demo --nodes 5

sim (.sim.run): run the same code under a virtual clock and a lossy network
  flc sim --nodes 50 --loss 5 --seed 7
"""


ENTRY = r"(?P<name>\w+)(?P<json> \{\})? \((?P<module>.+)\): (?P<summary>.+)\n(?P<example>(  .+\n)+)"

COMMANDS = {entry["name"]: entry for entry in re.finditer(ENTRY, TABLE)}
"""The entries of the table, by the names of the commands. `json` is None if a command has no --json
or explains it in its own way."""


def command_parser(name: str) -> Parser:
    """Make the parser of the words after `flc NAME`."""
    command = COMMANDS[name]
    parser = Parser(
        prog=f"flc {name}",
        description=f"{command['summary'][0].upper()}{command['summary'][1:]}.",
        epilog=f"example:\n{command['example'].rstrip()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        conflict_handler="resolve",  # a command may explain --data in its own way
    )
    add_arguments(parser, name)
    return parser


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    """Add the arguments that may be typed after `flc NAME`; those of many commands come first."""
    parser.add_argument(
        "--data", metavar="DIR", help="the node's directory (default $FLC_DATA, then the user's)"
    )
    if COMMANDS[name]["json"]:
        parser.add_argument("--json", action="store_true", help="print JSON, one object a line")
    if add := getattr(module_of(name), f"add_{name}", None):
        add(parser)


def module_of(name: str) -> ModuleType:
    """Import the module with the functions of a command."""
    return import_module(f".{COMMANDS[name]['module']}", "flc_udp.cli")
