"""A party in a process of its own, for tests that attack it: one session per line of its input.

    python victim.py NAMES ADDRESSES FOLDER|-

NAMES: of the parties, the first is this one. A line is the deadline of a session. For every session
it prints a line of JSON: what it received or the error it got, the peak of its memory in KiB, and
the log lines.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
from pathlib import Path

import numpy as np

from spuvm.errors import SpuvmError
from spuvm.net.endpoint import Envelope
from spuvm.net.settings import Links, Tls
from spuvm.net.tcp_endpoint import TcpEndpoint
from spuvm.net.wire import structure_of

log: list[str] = []


class Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        log.append(f"{record.levelname} {record.getMessage()}")


def session(names: list[str], links: Links, deadline: float) -> str:
    with TcpEndpoint(names[0], links, read_ahead=1 << 20) as end:
        end.connect()
        end.channel("spu0", names)
        print("connected", flush=True)
        expected = structure_of(np.zeros(4, np.float32))
        got = end.receive(names[1], Envelope("op", "x", expected), deadline=deadline)
        return str(got)


def main() -> None:
    names, addresses, folder = sys.argv[1].split(","), json.loads(sys.argv[2]), sys.argv[3]
    logging.getLogger("spuvm").addHandler(Lines())
    logging.getLogger("spuvm").setLevel("INFO")
    path = Path(folder)
    tls = None if folder == "-" else Tls(path / "ca.pem", path / "cert.pem", path / "key.pem")
    places = {name: (host, port) for name, (host, port) in addresses.items()}
    print("ready", flush=True)
    for line in sys.stdin:
        log.clear()
        try:
            said = session(names, Links(places, tls, None, 20, 20), float(line))
        except SpuvmError as error:
            said = str(error)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps({"said": said, "memory": memory, "log": log}), flush=True)


if __name__ == "__main__":
    main()
