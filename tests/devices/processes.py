"""Parties as processes of their own: real sockets, real TLS, `spuvm run` at each."""

import os
import runpy
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from spuvm import certs

ROOT = Path(__file__).parents[2]
ORGANISATIONS = ROOT / "examples" / "three_organisations"


@dataclass
class Done:
    """How a party's process ended."""

    code: int
    out: str
    seconds: float


def free_ports(count):
    """Ports of 127.0.0.1 that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def plain_training(folder, epochs):
    """Of examples/three_organisations in clear: weights of both, and the share that is right."""
    example = runpy.run_path(str(ORGANISATIONS / "train.py"), run_name="example")
    theirs = example["read_measurements"](folder / "hospital.csv")
    ours, outcome = example["read_outcomes"](folder / "clinic.csv")
    w = example["start"](theirs, ours, outcome)
    for _ in range(epochs):
        w = example["epoch"](w, theirs, ours, outcome)
    right = example["share_of_right_answers"](w, theirs, ours, outcome)
    return np.asarray(w[: theirs.shape[1]]), np.asarray(w[theirs.shape[1] :]), float(right)


@dataclass
class Deployment:
    """A cluster file with certificates in a folder, and runs of scripts in it.

    places  by party: address, where it listens, and the start of its commands; empty: free ports.
    """

    folder: Path
    parties: tuple = ("alice", "bob", "carol")
    more: str = ""
    timing: dict = field(default_factory=lambda: {"deadline": 30, "start_wait": 120})
    places: dict = field(default_factory=dict)

    def __post_init__(self):
        certs.development(self.folder, self.parties)
        if not self.places:
            ports = free_ports(len(self.parties))
            addresses = [("127.0.0.1", port) for port in ports]
            self.places = {p: (a, a, []) for p, a in zip(self.parties, addresses, strict=True)}
        text = "[parties]\n"
        for party, ((host, port), _, _) in self.places.items():
            text += f'{party} = "{host}:{port}"\n'
        for name, file in (("ca", "ca.pem"), ("cert", "cert.pem"), ("key", "key.pem")):
            text += ("[tls]\n" if name == "ca" else "") + f'{name} = "{{party}}/{file}"\n'
        text += "[timing]\n" + "".join(f"{k} = {v}\n" for k, v in self.timing.items())
        text += self.more
        (self.folder / "cluster.toml").write_text(text)
        for party, (_, (host, port), _) in self.places.items():
            own = f'[local]\nlisten = "{host}:{port}"\n'
            (self.folder / f"{party}.toml").write_text(text + own)

    def start(self, party, script, *args, env=None):
        """The process of one party; options of `spuvm run` may stand before the script."""
        command = [*self.places[party][2], sys.executable, "-m", "spuvm.cli", "run"]
        command += ["--party", party, "--cluster", str(self.folder / f"{party}.toml")]
        command += [str(script), *map(str, args)]
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PARTY": party, **(env or {})},
        )

    def start_plainly(self, party, script):
        """The process of one party whose script says itself which party it is."""
        return subprocess.Popen(
            [sys.executable, str(script)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PARTY": party},
        )

    def run(self, script, *args, limit=150, env=None, only=None):
        """The script at every party (or `only` some); how each process ended."""
        begin = time.monotonic()
        running = {p: self.start(p, script, *args, env=env) for p in only or self.parties}
        done = {}
        try:
            for party, process in running.items():
                out, _ = process.communicate(timeout=max(1, limit - (time.monotonic() - begin)))
                done[party] = Done(process.returncode, out, time.monotonic() - begin)
        finally:
            for process in running.values():
                process.kill()
        return done

    def ledger(self, party):
        """The file of a party's ledger."""
        return self.folder / f"ledger-{party}.jsonl"
