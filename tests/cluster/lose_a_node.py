"""A program for `test_pool_nodes.py`: a cluster of two machines in one, of which one leaves and another joins.

It must be started with token authentication in its environment, which Ray reads when it is imported.
"""

from __future__ import annotations

import json
import os
import sys
import time
from functools import partial
from pathlib import Path

from ray.cluster_utils import Cluster

from cluster.placement import ResourceRequest
from cluster.protocol import Assignment
from cluster.run.driver import Driver, Terms
from cluster.run.pool import RayPool, session
from cluster.stopping import StopRequest
from tests.cluster.actors import ScriptedRunner
from tests.cluster.corpora import FarLedger, named


class Moves(RayPool):
    """A pool that, once both of its workers are busy, loses a machine and soon gets another."""

    machines: Cluster
    seen: list[str]

    def submit(self, worker: str, assignment: Assignment) -> None:
        super().submit(worker, assignment)
        self.seen.append(worker)
        if len(self.seen) == 2:
            time.sleep(1)
            self.machines.remove_node(self.machines.list_all_nodes()[-1], allow_graceful=False)
            self.machines.add_node(num_cpus=1)


def main(pids: Path) -> None:
    machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    machines.add_node(num_cpus=1)
    os.environ["RAY_ADDRESS"] = machines.address
    with session():
        pool = Moves(partial(ScriptedRunner, pids), ResourceRequest(shards=8, cpus_per_worker=1))
        pool.machines, pool.seen = machines, []
        while len(pool.idle()) < 2:
            pool.wait(0.2)
        work = [named(f"slow-{number}") for number in range(10)]
        report = Driver(FarLedger(names=[shard.name for shard in work]), pool, Terms(), stop=StopRequest()).run(work)
        print(json.dumps([report.this_run.shards, dict(report.failures), len(set(pool.seen))]))
        pool.close()
    machines.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
