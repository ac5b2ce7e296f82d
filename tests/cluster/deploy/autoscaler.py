"""What Ray's own autoscaler would start for a job, from nothing."""

from __future__ import annotations

from functools import partial
from typing import Any

from ray.autoscaler._private.node_provider_availability_tracker import NodeAvailabilitySummary
from ray.autoscaler._private.resource_demand_scheduler import _default_utilization_scorer, get_nodes_for

from cluster.config import JobConfig
from cluster.placement import ResourceRequest
from tests.cluster.deploy.manifests import pods

SWITCHED = ["--method", "llmlingua", "--gpus-per-worker", "1", "--workers", "8"]
"""What every file says is given for a method with a language model."""


def groups(cluster: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The worker groups of a KubeRay cluster, in the words of `ray up`."""
    found = {}
    for group in cluster["workerGroupSpecs"]:
        limits = pods(group)[0]["containers"][0]["resources"]["limits"]
        resources = {"CPU": int(limits["cpu"]), "GPU": int(limits.get("nvidia.com/gpu", 0))}
        found[group["groupName"]] = {"resources": resources, "max_workers": group["maxReplicas"]}
    return found


def started(kinds: dict[str, dict[str, Any]], config: JobConfig) -> dict[str, int]:
    """Nodes by kind for all workers that the job wants; every one of them must find its place."""
    shape = ResourceRequest.of(config, 1000, [config.compression.own.needs]).shape(gpus=0, cpus=0)
    worker = {"CPU": shape.threads, **({"GPU": shape.gpus} if shape.gpus else {})}
    scorer = partial(_default_utilization_scorer, node_availability_summary=NodeAvailabilitySummary({}))
    nodes, left = get_nodes_for(kinds, {}, "head", 1000, [worker] * shape.workers, scorer)
    assert left == []
    return dict(nodes)
