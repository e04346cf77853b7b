"""The command line: `spuvm demo`, `explain`, `run`, `certs`, `ledger`, `doctor`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from spuvm import __version__
from spuvm.errors import SpuvmError


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it went well, 1 when it failed, 2 for a wrong command line."""
    options = _parser().parse_args(argv)
    try:
        if options.command == "demo":
            if options.mixed_lr:
                from spuvm import demo_mixed

                demo_mixed.main(options.backend)
                return 0
            from spuvm import demo

            demo.main(options.backend, options.rounds)
            return 0
        if options.command == "explain":
            from spuvm import Config
            from spuvm.explain import explain

            explain(
                options.target,
                options.specs,
                Config(options.ring, options.frac_bits, options.input_range),
            )
            return 0
        if options.command == "certs":
            return _certs(options)
        if options.command == "run":
            from spuvm.running import run

            run(options.party, options.cluster, options.backend, options.script, options.args)
            return 0
        if options.command == "ledger":
            from spuvm.running import show_ledger, verify_ledger

            if options.action == "show":
                show_ledger(options.file)
            else:
                verify_ledger(options.file, options.head)
            return 0
        from spuvm import doctor

        return doctor.main()
    except SpuvmError as error:
        print(f"spuvm: {error}", file=sys.stderr)
        return 1


def _certs(options: argparse.Namespace) -> int:
    from spuvm import certs

    if options.own is not None:
        path = certs.own(options.out, options.own, days=_or(options.days, 365))
        print(f"{path}/cert.pem: give it to the others; their ca.pem lists all parties' ones")
        print(f"{path}/key.pem: stays here")
        return 0
    parties = [name.strip() for name in options.parties.split(",")]
    pinned = options.trust == "pinned"
    for path in certs.development(
        options.out, parties, days=_or(options.days, 90), pinned=pinned
    ).values():
        print(f"{path}/: ca.pem cert.pem key.pem cluster.toml")
    print(f"{options.out}/cluster.toml: for all parties on this machine")
    print("For development: whoever ran this has seen all private keys (docs/deployment.md).")
    return 0


def _or(given: int | None, default: int) -> int:
    return default if given is None else given


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="spuvm", description="Secure computation with JAX.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="ten clients average model weights secretly")
    demo.add_argument("--backend", default="ray", choices=["ray", "inprocess"])
    demo.add_argument("--rounds", type=int, default=20, help="of training and averaging")
    demo.add_argument(
        "--mixed-lr", action="store_true", help="instead: a model on rows and columns of four"
    )
    explain = commands.add_parser(
        "explain", help="program, rounds, bytes, openings and range warnings, without running"
    )
    explain.add_argument("target", metavar="FILE:FN", help="a function in a Python file")
    explain.add_argument(
        "specs", metavar="ARGSPEC", nargs="*", help="per argument f32[3,4], i32, bool[8], a+b: list"
    )
    explain.add_argument("--ring", type=int, default=64)
    explain.add_argument("--frac-bits", type=int, default=None)
    explain.add_argument("--input-range", type=float, nargs=2, metavar=("LO", "HI"), default=None)
    certs = commands.add_parser(
        "certs", help="certificates and a cluster.toml for parties on several machines"
    )
    whose = certs.add_mutually_exclusive_group(required=True)
    whose.add_argument("--parties", metavar="A,B,C", help="for development: of all parties")
    whose.add_argument("--own", metavar="A", help="of one party, which signs itself")
    certs.add_argument("--out", type=Path, default=Path("certs"), help="directory to make")
    certs.add_argument("--days", type=int, default=None, help="of validity: 90, with --own 365")
    certs.add_argument(
        "--trust",
        default="authority",
        choices=["authority", "pinned"],
        help="one authority signs all and is thrown away, or each party signs itself",
    )
    run = commands.add_parser("run", help="run a script as one party; every party runs the same")
    run.add_argument("--party", required=True, help="which party this is")
    run.add_argument("--cluster", default="cluster.toml", help="addresses, certificates, policy")
    run.add_argument("--backend", default="inprocess", choices=["inprocess", "ray"])
    run.add_argument("script", help="a Python file")
    run.add_argument("args", nargs=argparse.REMAINDER, help="for the script")
    ledger = commands.add_parser("ledger", help="what left a party and what it learned")
    ledger.add_argument("action", choices=["show", "verify"])
    ledger.add_argument("file")
    ledger.add_argument("--head", default=None, help="hash of an entry that must be in the file")
    commands.add_parser("doctor", help="versions, cores, kernel cache: what is missing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
