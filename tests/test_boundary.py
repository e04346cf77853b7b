"""Trust zones: where shares are opened, dealt and put together, and what the share side may use."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("spuvm", "kernels", "devices")
SHARE_SIDE = ("spuvm/vm", "spuvm/protocol", "spuvm/net", "spuvm/bytecode", "kernels")

USES = (ast.Name, ast.Attribute, ast.ImportFrom)
CALLS = (ast.Call, ast.ImportFrom)

IO = "spuvm/protocol/aby3/io.py"
CROSSINGS = "devices/crossings.py"

# Who may open a value inside a protocol, and why that value is masked.
OPENERS = {
    ("spuvm/protocol/aby3/truncation.py", "truncate_product"): "x + r, r fresh from the streams",
    ("spuvm/protocol/aby3/lookup.py", "_opened"): "index + r, r fresh from the streams",
    ("spuvm/protocol/aby3/lookup.py", "_deal"): "index + r: the party that knows r and not the sum",
    ("spuvm/protocol/aby3/sort.py", "_precedes"): "order of distinct rows, shuffled before",
}


Use = tuple[type[ast.AST], str, str]


@cache
def parsed(name: str) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse((ROOT / name).read_text())


def files(*folders: str) -> Iterator[tuple[str, ast.Module]]:
    """(path from the root, syntax tree) of every source file; links are not followed."""
    for folder in folders or FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith(("spuvm/kernels/", "spuvm/devices/")):
                yield name, parsed(name)


def users(
    tree: ast.Module, wanted: set[str], kinds: tuple[type[ast.AST], ...] = USES
) -> Iterator[tuple[str, str]]:
    """(enclosing function, name) of every use of the names in nodes of these kinds."""
    for kind, function, name in uses(tree):
        if name in wanted and issubclass(kind, kinds):
            yield function, name


@cache
def uses(tree: ast.Module) -> list[Use]:
    """(kind of the node, enclosing function, name) of every use of any name."""
    found: list[Use] = []

    def visit(node: ast.AST, function: str) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function = node.name
        names: list[str] = []
        if isinstance(node, ast.Call):
            function_called = node.func
            if isinstance(function_called, ast.Name):
                names = [function_called.id]
            elif isinstance(function_called, ast.Attribute):
                names = [function_called.attr]
        elif isinstance(node, ast.Name):
            names = [node.id]
        elif isinstance(node, ast.Attribute):
            names = [node.attr]
        elif isinstance(node, ast.ImportFrom):
            names = [a.name for a in node.names]
        found.extend((type(node), function, n) for n in names)
        for child in ast.iter_child_nodes(node):
            visit(child, function)

    visit(tree, "")
    return found


@cache
def imports(tree: ast.Module) -> list[ast.Import | ast.ImportFrom]:
    """Every import, in functions too."""
    return [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]


def test_one_opening_with_callers_on_a_list() -> None:
    calling = set()
    for name, tree in files():
        for function, _ in users(tree, {"open_", "open_bits"}):
            calling.add((name, function))
    importing = {(name, "") for name, _ in OPENERS}
    assert calling - importing == set(OPENERS), "a new caller of open_ needs a reason in OPENERS"


SOCKETS = ("spuvm/net/handshake.py", "spuvm/net/keeper.py")
"""Where `accept` is that of a listening socket."""


def test_clear_data_meets_shares_in_two_files() -> None:
    """Only io.py and crossings.py deal or reconstruct; only the machine accepts what was dealt."""
    for name, tree in files():
        found = {n for _, n in users(tree, {"deal", "reconstruct"}, CALLS)}
        assert not found or name in (IO, CROSSINGS), f"{name} uses {sorted(found)}"
        taking = {n for _, n in users(tree, {"accept"}, CALLS)}
        assert not taking or name in (IO, "spuvm/vm/machine.py", *SOCKETS)


def test_components_are_touched_by_protocols_only() -> None:
    for name, tree in files():
        found = {n for _, n in users(tree, {"x0", "x1"}, (ast.Attribute,))}
        allowed = name.startswith(("spuvm/protocol/", "kernels/"))
        assert not found or allowed, f"{name} reads components of shares"


def test_randomness_has_four_sources() -> None:
    """Masks come from pair streams; seeds, keys and nonces from the operating system."""
    sources = {"random", "secrets", "urandom", "default_rng", "randbytes", "getrandbits"}
    allowed = {
        IO: {"urandom"},  # one-time seeds of an owner
        "spuvm/net/keys.py": {"urandom"},  # nonces of a session
        "spuvm/vm/checkpoint.py": {"urandom"},  # a party's key of saved shares, and nonces
        "spuvm/net/tcp_endpoint.py": {"urandom"},  # the same
        "spuvm/net/local_endpoint.py": {"urandom"},  # the same, of parties in one process
        "spuvm/protocol/plain.py": {
            "random",
            "default_rng",
        },  # np.random.Generator of the reference: no secrets
    }
    for name, tree in files(*SHARE_SIDE):
        imported = {
            a.name.split(".")[0]
            for node in imports(tree)
            if isinstance(node, ast.Import)
            for a in node.names
        }
        found = {n for _, n in users(tree, sources)} | imported & sources
        assert found <= allowed.get(name, set()), f"{name} uses {sorted(found)}"


def test_nothing_executable_crosses() -> None:
    """No pickle, marshal, eval or exec on the share side."""
    banned = {"pickle", "cloudpickle", "marshal", "shelve", "dill", "eval", "exec", "__import__"}
    for name, tree in files(*SHARE_SIDE):
        imported = {
            a.name.split(".")[0]
            for node in imports(tree)
            if isinstance(node, ast.Import)
            for a in node.names
        } | {n.module or "" for n in imports(tree) if isinstance(n, ast.ImportFrom)}
        found = (imported | {n for _, n in users(tree, banned)}) & banned
        assert not found, f"{name} uses {sorted(found)}"


def test_shares_are_redacted_classes() -> None:
    """Every class that holds components or dealt arrays hides them."""
    from spuvm.protocol.aby3.io import Dealt
    from spuvm.protocol.aby3.share import AShare, BShare, Redacted

    assert issubclass(AShare, Redacted)
    assert issubclass(BShare, Redacted)
    for cls in (AShare, BShare, Dealt):
        assert "__repr__" in vars(cls)
        assert "__eq__" not in vars(cls)


def test_phe_is_touched_in_two_files() -> None:
    """Its objects carry ciphertexts that are not randomised: they are made for export alone."""
    for name, tree in files():
        imported = {
            a.name.split(".")[0]
            for node in imports(tree)
            if isinstance(node, ast.Import)
            for a in node.names
        } | {n.module or "" for n in imports(tree) if isinstance(n, ast.ImportFrom)}
        allowed = name in ("spuvm/paillier/keys.py", "spuvm/paillier/interop.py")
        assert allowed or "phe" not in imported, f"{name} imports phe"


def test_ciphertexts_leave_sealed() -> None:
    """Only one function writes ciphertexts down, and only a party's own instance calls it."""
    for name, tree in files():
        found = {n for _, n in users(tree, {"seal"}, CALLS)}
        assert not found or name == "devices/heuparty.py", f"{name} seals ciphertexts"
