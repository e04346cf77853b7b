"""Run by test_cluster.py: a Ray cluster of three nodes, one per party, and the secure example.

Afterwards carol's node goes and another comes in its place.
"""

import runpy
import sys
from pathlib import Path

import numpy as np
import ray
from ray.cluster_utils import Cluster

import spuvm as sf

EXAMPLE = Path(__file__).parents[2] / "examples" / "fedavg_secure_server.py"
PARTIES = ["alice", "bob", "carol"]
SOON = {"health_check_period_ms": 500, "health_check_failure_threshold": 2}


def node():
    """Id of the node that this runs on."""
    return ray.get_runtime_context().get_node_id()


def with_carol(spu):
    """A value of carol's, doubled."""
    return float(sf.reveal(spu(lambda x: 2 * x)(sf.PYU("carol")(lambda: np.float32(1.5))())))


def without_carol(spu, leave):
    """What is asked of carol fails wherever it is, and what waits for it; all else goes on."""
    alice, carol = sf.PYU("alice"), sf.PYU("carol")
    kept = alice(lambda: np.float32(2.5))()
    sf.wait([kept, spu(lambda x: x + 1)(kept)])
    leave()
    early = alice(lambda x: x + 1)(carol(lambda: 1)().to(alice))  # Ray knows no better yet
    for name, ask in {
        "DEPENDENT": lambda: sf.reveal(early),
        "TASK": lambda: sf.reveal(carol(lambda: 1)()),
        "OLD": lambda: with_carol(spu),
        "NEW": lambda: sf.SPU(PARTIES),
    }.items():
        try:
            print(name, ask())
        except sf.errors.PartyError as error:
            print(name, "FAILED", error.message)
    print("KEPT", float(sf.reveal(kept)))


def main(folder):
    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 1,
            "resources": {"party:alice": 1},
            "_system_config": SOON,
        },
    )
    nodes = {}
    for party in PARTIES[1:]:
        name = party if party == "carol" else f"party:{party}"  # both names will do
        nodes[party] = cluster.add_node(num_cpus=1, resources={name: 1})
    cluster.wait_for_nodes()
    try:
        sf.init([*PARTIES, "eve"], address=cluster.address)
    except sf.errors.UsageError as error:
        print(error)
    sf.init(PARTIES, address=cluster.address)
    homes = sf.reveal([sf.PYU(party)(node)() for party in PARTIES])
    spu = sf.SPU(PARTIES)
    example = runpy.run_path(str(EXAMPLE), run_name="example")
    weights = example["run"](spu, f"{folder}/model.npz")
    saved = np.load(f"{folder}/model.npz")
    assert all(np.array_equal(saved[f"arr_{i}"], w) for i, w in enumerate(weights))
    print("NODES", len(set(homes)), "LAYERS", len(weights))
    without_carol(spu, lambda: cluster.remove_node(nodes["carol"], allow_graceful=False))
    cluster.add_node(num_cpus=1, resources={"carol": 1})
    cluster.wait_for_nodes()
    print("AGAIN", with_carol(sf.SPU(PARTIES)))
    sf.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
