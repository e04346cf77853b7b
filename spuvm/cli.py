"""The command line: `spuvm demo`, `spuvm explain FILE:FN ARGSPEC...`, `spuvm doctor`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from spuvm.errors import SpuvmError


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 when it went well, 1 when it failed, 2 for a wrong command line."""
    options = _parser().parse_args(argv)
    try:
        if options.command == "demo":
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
        from spuvm import doctor

        return doctor.main()
    except SpuvmError as error:
        print(f"spuvm: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="spuvm", description="Secure computation with JAX.")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="ten clients average model weights secretly")
    demo.add_argument("--backend", default="ray", choices=["ray", "inprocess"])
    demo.add_argument("--rounds", type=int, default=20, help="of training and averaging")
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
    commands.add_parser("doctor", help="versions, cores, kernel cache: what is missing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
