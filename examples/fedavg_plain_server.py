"""Federated averaging, the usual way: every client trusts one server with its weights.

    python examples/fedavg_plain_server.py [--backend ray|inprocess]

The server is a PYU: plain Python at the party that runs it, which sees every client's weights.
fedavg_secure_server.py is the same program with a server that sees nothing.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np

import spuvm as sf

CLIENTS = ["alice", "bob", "carol"]
EPOCHS = 5


@sf.proxy(sf.PYUObject)
class Client:
    """A party with its own data and model; it lives where its data is."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.x = rng.normal(loc=seed, size=(40 + 20 * seed, 8)).astype("float32")
        self.y = (self.x @ np.linspace(-1, 1, 8) + rng.normal(size=len(self.x)) > 0).astype(
            "float32"
        )
        self.weights = None

    def set_weights(self, weights):
        self.weights = weights

    def get_weights(self):
        return self.weights

    def local_train(self, steps=20, rate=0.05):
        for _ in range(steps):
            slopes = gradient(self.weights, self.x, self.y)
            self.weights = [w - rate * g for w, g in zip(self.weights, slopes, strict=False)]

    def save_model(self, path):
        np.savez(path, *self.weights)


def loss(weights, x, y):
    hidden = jnp.tanh(x @ weights[0] + weights[1])
    z = hidden @ weights[2] + weights[3]
    return jnp.mean(jnp.logaddexp(0.0, z) - y * z)


gradient = jax.jit(jax.grad(loss))


def init_weights():
    k1, k2 = jax.random.split(jax.random.key(0))
    return [
        0.5 * jax.random.normal(k1, (8, 6)),
        jnp.zeros(6),
        0.5 * jax.random.normal(k2, (6,)),
        jnp.zeros(()),
    ]


def average(all_weights):
    return [sum(layer) / len(layer) for layer in zip(*all_weights, strict=False)]


def run(server, model_path):
    """Train; the server may be a PYU or an SPU, nothing else changes. Returns the final weights."""
    clients = [Client(seed, device=sf.PYU(party)) for seed, party in enumerate(CLIENTS)]
    weights = server(init_weights)()
    for _ in range(EPOCHS):
        all_weights = []
        for client in clients:
            client.set_weights(weights.to(client))
            client.local_train()
            all_weights.append(client.get_weights().to(server))
        weights = server(average)(all_weights)
    clients[0].set_weights(weights.to(clients[0]))
    sf.wait(clients[0].save_model(model_path))
    return sf.reveal(clients[0].get_weights())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="ray", choices=["ray", "inprocess"])
    parser.add_argument("--model", default="model.npz", help="where alice saves her model")
    options = parser.parse_args()
    sf.init([*CLIENTS, "server"], backend=options.backend)
    final = run(sf.PYU("server"), options.model)
    print("trained; mean of every layer:", [round(float(np.mean(w)), 4) for w in final])
    sf.shutdown()
