"""`spuvm demo`: ten clients average real model weights and nobody sees anyone's.

Ten clients hold unequal, non-identically distributed parts of scikit-learn's digits. Each trains a
small JAX model on its own part; three other parties average the weights, weighted by sample counts
that stay secret too. Beside it the same training with a plaintext average, from the same seeds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import spuvm as sf
from spuvm.compiler.disclosure import Disclosure
from spuvm.devices.costs import Run
from spuvm.devices.session import BackendName, current
from spuvm.digits import CLIENTS, Array, Digits, Weights, init_weights, load_digits, predict
from spuvm.errors import UsageError
from spuvm.functions import logistic_gradient, logistic_loss, weighted_average
from spuvm.samples import tumours

ROUNDS = 20
COMPUTE = ("alice", "bob", "carol")
LARGEST = 2048.0  # what weights and sample counts keep to: declared, an average sends a thirtieth

Client = sf.proxy(sf.PYUObject)(Digits)
Tick = Callable[[], None]


@dataclass(frozen=True)
class Secure:
    """The secure run: final weights, seconds of every round and average, what an average took."""

    weights: Weights
    seconds: list[float]
    averaging: list[float]
    run: Run


@dataclass(frozen=True)
class Result:
    """What the demo found."""

    accuracy_secure: float
    accuracy_plain: float
    max_weight_difference: float
    differently_classified: int
    gradient_difference: float


def main(backend: BackendName = "ray", rounds: int = ROUNDS) -> Result:
    """Run the demo and print its tables; the last line is the result.

    Raises:
        UsageError: no rounds.
    """
    if rounds < 1:
        raise UsageError("the demo takes at least one round", got=str(rounds))
    console = Console()
    names = [f"client{i}" for i in range(CLIENTS)]
    columns = TextColumn("{task.description:<34}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        setup = progress.add_task("starting parties", total=3)
        sf.init([*names, *COMPUTE], backend=backend, logs="files")
        progress.advance(setup)
        try:
            spu = sf.SPU(COMPUTE, sf.Config(input_range=(-LARGEST, LARGEST)))
            progress.advance(setup)
            clients = [Client(i, device=sf.PYU(name)) for i, name in enumerate(names)]
            sf.wait([client.count() for client in clients])
            progress.advance(setup)
            bar = progress.add_task("secure federated averaging", total=rounds)
            secure = _secure(spu, clients, rounds, lambda: progress.advance(bar))
            bar = progress.add_task("the same with a plaintext average", total=rounds)
            plain = _plain(rounds, lambda: progress.advance(bar))
            bar = progress.add_task("gradient on split data", total=1)
            gradient_difference = _gradient(spu)
            progress.advance(bar)
            opened = dict(current().opened)
        finally:
            sf.shutdown()
    result = _compare(secure, plain, gradient_difference)
    _tables(console, secure, result, opened)
    print(
        f"RESULT accuracy_secure={result.accuracy_secure:.4f} "
        f"accuracy_plain={result.accuracy_plain:.4f} "
        f"max_weight_difference={result.max_weight_difference:.2e}"
    )
    return result


def average_of_clients(models: list[Weights], counts: list[Any]) -> Weights:
    """Mean of the models, client i counted `counts[i]` times, at least once."""
    average: Weights = weighted_average(
        models, [sf.assume_range(count, 1, LARGEST) for count in counts]
    )
    return average


def _secure(spu: sf.SPU, clients: list[Any], rounds: int, tick: Tick) -> Secure:
    counts = [client.count().to(spu) for client in clients]
    weights = spu(init_weights)()
    average = spu(average_of_clients)
    seconds, averaging = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        for client in clients:
            client.set_weights(weights.to(client))
            client.local_train()
        trained = [client.get_weights() for client in clients]
        sf.wait(trained)
        middle = time.perf_counter()
        weights = average(trained, counts)
        sf.wait(weights)
        averaging.append(time.perf_counter() - middle)
        seconds.append(time.perf_counter() - start)
        tick()
    run = spu.last_run
    assert run is not None
    return Secure(sf.reveal(weights), seconds, averaging, run)


def _plain(rounds: int, tick: Tick) -> Weights:
    clients = [Digits(i) for i in range(CLIENTS)]
    weights = init_weights()
    average = jax.jit(weighted_average)
    for _ in range(rounds):
        for client in clients:
            client.set_weights(weights)
            client.local_train()
        weights = average([c.get_weights() for c in clients], [c.count() for c in clients])
        tick()
    return weights


def _gradient(spu: sf.SPU) -> float:
    """Largest difference between the secure and the plaintext gradient of a logistic loss."""
    first, second = sf.PYU(COMPUTE[0]), sf.PYU(COMPUTE[1])
    w = jnp.linspace(-0.2, 0.2, 30)
    x, y = first(tumour_features)(), second(tumour_labels)()
    secure = spu(jax.grad(logistic_loss))(sf.to(first, w), x, y)
    clear = logistic_gradient(w, tumour_features(), tumour_labels())
    return float(np.abs(sf.reveal(secure.to(first)) - np.asarray(clear)).max())


def tumour_features() -> Array:
    """Standardised features of scikit-learn's breast cancer data, [569, 30]."""
    x = tumours()[0]
    scaled: Array = ((x - x.mean(0)) / x.std(0)).astype(np.float32)
    return scaled


def tumour_labels() -> Array:
    """Their labels, 0 or 1, [569]."""
    labels: Array = tumours()[1].astype(np.float32)
    return labels


def _compare(secure: Secure, plain: Weights, gradient_difference: float) -> Result:
    _, _, x, y = load_digits()
    ours, theirs = predict(secure.weights, x), predict(plain, x)
    apart = [np.abs(a - np.asarray(b)).max() for a, b in zip(secure.weights, plain, strict=True)]
    return Result(
        float((ours == y).mean()),
        float((theirs == y).mean()),
        float(max(apart)),
        int((ours != theirs).sum()),
        gradient_difference,
    )


def _tables(
    console: Console, secure: Secure, result: Result, opened: dict[Disclosure, int]
) -> None:
    table = Table("", "secure", "plaintext", title="Federated averaging of ten clients' digits")
    table.add_row("test accuracy", f"{result.accuracy_secure:.4f}", f"{result.accuracy_plain:.4f}")
    table.add_row("test digits classified differently", str(result.differently_classified), "")
    table.add_row("seconds per round (median)", f"{median(secure.seconds):.3f}", "")
    table.add_row("  of which sharing and averaging", f"{median(secure.averaging):.3f}", "")
    table.add_row("protocol rounds of one average", str(secure.run.rounds), "")
    for party, count in zip(COMPUTE, secure.run.bytes_sent, strict=True):
        table.add_row(f"bytes {party} sends for it", f"{count:,}", "")
    table.add_row("gradient on split data: largest error", f"{result.gradient_difference:.1e}", "")
    console.print(table)
    table = Table("what was opened", "to whom", "arrays", "times", title="Disclosures")
    for (what, times), (receivers, arrays) in _grouped(opened).items():
        table.add_row(what, ", ".join(receivers), ", ".join(arrays), str(times))
    console.print(table)
    console.print("Nothing else was opened: clients' weights and sample counts stayed secret.")


def _grouped(
    opened: dict[Disclosure, int],
) -> dict[tuple[str, int], tuple[list[str], list[str]]]:
    """Receivers and arrays by what was opened and how often."""
    groups: dict[tuple[str, int], tuple[list[str], list[str]]] = {}
    for one, times in opened.items():
        receivers, arrays = groups.setdefault((one.what, times), ([], []))
        shape = f"{one.dtype}{list(one.shape)}" if one.dtype else "as it is there"
        if one.to not in receivers:
            receivers.append(one.to)
        if shape not in arrays:
            arrays.append(shape)
    return groups
