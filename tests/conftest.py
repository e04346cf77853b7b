"""Hypothesis profiles, test helpers, machines for all tests.

HYPOTHESIS_PROFILE is quick or fuzz; FUZZ_EXAMPLES says how many examples of each property the
latter draws. Time grows with it: all but Ray's took 27 minutes on 2 busy cores with 25.
"""

import gc
import os
import re
import sys
from importlib import metadata

# Many small matrix products on a shared machine: threads of the linear algebra only wait.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# References run once or twice: compiling them well took longer than running them. JAX ends where it
# does not know a flag.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    + " --xla_cpu_use_fusion_emitters=false" * metadata.version("jaxlib").startswith("0.10."),
)

from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# What JAX has traced and compiled stays: looking through it again and again took 7 % of the time.
gc.set_threshold(100_000, 20, 50)

HERE = Path(__file__).parent
STATISTICS = "hypothesis_statistics"  # where the plugin of hypothesis leaves them, as text
for folder in ("conformance", "bytecode", "ml"):
    if str(HERE / folder) not in sys.path:
        sys.path.insert(0, str(HERE / folder))

slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("quick", max_examples=3, deadline=None, suppress_health_check=slow)
many = int(os.environ.get("FUZZ_EXAMPLES", "100"))
settings.register_profile("fuzz", max_examples=many, deadline=None, suppress_health_check=slow)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(scope="module", autouse=True)
def frozen() -> Iterator[None]:
    """What a file leaves is looked at once: pytest collects five times at the end of a run."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def one_context() -> None:
    """Functions that JAX compiles share a context of MLIR, a hundred each.

    Making one for each takes a fifth of the time, and 1 MB for as long as JAX keeps the function.
    """
    from jax._src.interpreters import mlir

    made = count = 0
    make = mlir.make_ir_context

    def shared() -> object:
        nonlocal made, count
        if mlir.ir.Context.current is not None:  # modules would be made inside of each other
            return make()
        made, count = (make() if count % 100 == 0 else made), count + 1
        return made

    mlir.make_ir_context = shared  # type: ignore[assignment]


@pytest.fixture(scope="session")
def trio() -> Iterator[Callable[[int], object]]:
    """trio(bits): the three machines of a ring, kept for the session; new ones after a failure."""
    from parties import Trio

    from spuvm.ring import Ring

    alive: dict[int, Trio] = {}

    def get(bits: int) -> Trio:
        if bits not in alive or any(m._failure for m in alive[bits].machines):
            alive[bits] = Trio(Ring(bits))
        return alive[bits]

    yield get
    for made in alive.values():
        made.close()


# --- order of files -------------------------------------------------------------------------------

OTHERS = {"devices", "examples", "net"}  # where tests mostly wait for other processes


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that wait and files that compute take turns, so that two workers use two processors.

    Of both kinds long ones come first: at the end no worker is left alone with one of them.
    """
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    kinds: dict[bool, list[list[pytest.Item]]] = {False: [], True: []}
    for path, tests in files.items():
        waits = path.parent.name in OTHERS or any(t.get_closest_marker("ray") for t in tests)
        kinds[waits].append(tests)
    placed = []
    for kind in kinds.values():
        kind.sort(
            key=lambda tests: (not any(t.get_closest_marker("slow") for t in tests), -len(tests))
        )
        placed += [((i + 0.5) / len(kind), tests) for i, tests in enumerate(kind)]
    items[:] = [test for _, tests in sorted(placed, key=lambda one: one[0]) for test in tests]


# --- examples that property tests ran -------------------------------------------------------------

RAN = {"examples": 0, "tests": 0}
EXAMPLES = "hypothesis_examples"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A report carries its test's number of examples, also from another process."""
    report = yield
    found = re.findall(r"(\d+) passing.*?(\d+) failing", getattr(item, STATISTICS, ""))
    if call.when == "call" and found:
        report.user_properties.append((EXAMPLES, sum(int(n) for pair in found for n in pair)))
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up the examples of all tests."""
    for examples in (value for name, value in report.user_properties if name == EXAMPLES):
        if report.when == "call":
            RAN["examples"] += int(str(examples))
            RAN["tests"] += 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line: how many examples the properties were tested on."""
    if RAN["tests"]:
        terminalreporter.write_line(
            f"hypothesis: {RAN['examples']:,} examples of {RAN['tests']} tests, "
            f"profile {os.environ.get('HYPOTHESIS_PROFILE', 'quick')}"
        )
