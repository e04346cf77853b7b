"""A party in a process of its own that does rounds and sends values, and tells how it went.

    python walker.py NAME ADDRESSES LISTEN FOLDER PLAN

All but the first and FOLDER are JSON. PLAN: deadline in seconds, rounds, words per round, bytes of
a value to each party at the end.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from spuvm.errors import SpuvmError
from spuvm.net.channel import Spec
from spuvm.net.endpoint import Envelope
from spuvm.net.settings import Links, Tls
from spuvm.net.tcp_endpoint import TcpEndpoint

WORD = np.dtype(np.uint64)


def walk(end: TcpEndpoint, plan: dict[str, float]) -> dict[str, float]:
    end.connect({"version": "1"})
    print("connected", flush=True)
    names, rank = end.parties, end.parties.index(end.name)
    nxt, prv = (rank + 1) % len(names), (rank - 1) % len(names)
    channel, size = end.channel("spu0", names), int(plan["words"])
    specs = [Spec(WORD, size)]
    channel.exchange(dict.fromkeys(channel.peers, ()), dict.fromkeys(channel.peers, ()))
    start = time.monotonic()
    for number in range(int(plan["rounds"])):
        data = np.full(size, 10 * number + rank, WORD)
        (got,) = channel.exchange({prv: [data]}, {nxt: specs})[nxt]
        assert (got == 10 * number + nxt).all()
    middle = time.monotonic()
    others = [name for name in names if name != end.name]
    for name in others:
        end.send(name, Envelope("end", "x"), np.full(int(plan["value"]), rank, np.uint8))
    for name in others:
        value = end.receive(name, Envelope("end", "x"), deadline=plan["deadline"])
        assert (np.asarray(value) == names.index(name)).all()
    return {"rounds": middle - start, "values": time.monotonic() - middle}


def main() -> None:
    name, addresses, listen, folder, plan = sys.argv[1:]
    places = {party: (host, port) for party, (host, port) in json.loads(addresses).items()}
    host, port = json.loads(listen)
    path, todo = Path(folder), json.loads(plan)
    tls = Tls(path / "ca.pem", path / "cert.pem", path / "key.pem")
    links = Links(places, tls, (host, port), 30, todo["deadline"])
    try:
        with TcpEndpoint(name, links) as end:
            said = walk(end, todo)
    except SpuvmError as error:
        said = {"error": str(error)}
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
