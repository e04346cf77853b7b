"""Run by test_cluster.py: a Ray cluster of three nodes, one per party, and the secure example."""

import runpy
import sys
from pathlib import Path

import numpy as np
import ray
from ray.cluster_utils import Cluster

import spuvm as sf

EXAMPLE = Path(__file__).parents[2] / "examples" / "fedavg_secure_server.py"
PARTIES = ["alice", "bob", "carol"]


def node():
    """Id of the node that this runs on."""
    return ray.get_runtime_context().get_node_id()


def main(folder):
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "resources": {"party:alice": 1}},
    )
    for party in PARTIES[1:]:
        name = party if party == "carol" else f"party:{party}"  # both names will do
        cluster.add_node(num_cpus=1, resources={name: 1})
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
    sf.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1])
