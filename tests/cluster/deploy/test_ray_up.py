"""The file for `ray up` against Ray's own schema and against the description of the EC2 interface."""

from __future__ import annotations

import copy
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

from cluster.config import JobConfig
from tests.cluster.deploy.autoscaler import SWITCHED, started
from tests.cluster.deploy.command_lines import compress_arguments
from tests.cluster.deploy.manifests import DEPLOY, load

FILE = "ray-up/cluster.yaml"


def test_ray_accepts_it() -> None:
    config = prepare_config(load(FILE))
    validate_config(config)
    assert config["head_node_type"] == "head"


@pytest.mark.parametrize("place", [(), ("docker",), ("auth",), ("available_node_types", "gpu")])
def test_a_misspelt_field_is_found(place: tuple[str, ...]) -> None:
    config = load(FILE)
    target = config
    for key in place:
        target = target[key]
    target["mispelt"] = "value"
    with pytest.raises(ValidationError):
        validate_config({"cluster_synced_files": [], **config})


def run_instances_report(node: dict[str, Any]) -> str:
    """What the client for EC2 objects to in the configuration of a machine; Ray adds the counts."""
    model = botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances")
    report = ParamValidator().validate({**node, "MinCount": 1, "MaxCount": 1}, model.input_shape)
    return str(report.generate_report())


@pytest.mark.parametrize("kind", ["head", "cpu", "gpu"])
def test_ec2_knows_every_field_of_the_machines(kind: str) -> None:
    node = load(FILE)["available_node_types"][kind]["node_config"]
    assert run_instances_report(node) == ""
    assert "Unknown parameter" in run_instances_report({**copy.deepcopy(node), "InstanceTyp": "m6i.xlarge"})


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_workers_are_spot_machines_that_start_at_none_and_the_head_is_not(kind: str) -> None:
    kinds = load(FILE)["available_node_types"]
    machine = kinds[kind]["node_config"]
    assert machine["InstanceMarketOptions"]["MarketType"] == "spot"
    assert kinds[kind]["min_workers"] == 0
    assert "InstanceMarketOptions" not in kinds["head"]["node_config"]
    assert kinds["head"]["resources"]["CPU"] == 0


def test_the_command_in_it_gets_all_machines_of_the_type_that_its_method_needs() -> None:
    (arguments,) = compress_arguments((DEPLOY / FILE).read_text())
    config = load(FILE)
    kinds = config["available_node_types"]
    assert started(kinds, JobConfig.load(arguments, {})) == {"cpu": kinds["cpu"]["max_workers"]}
    assert " ".join(SWITCHED) in (DEPLOY / FILE).read_text()
    switched = JobConfig.load(["--input", "in", "--output", "out", *SWITCHED], {})
    assert started(kinds, switched) == {"gpu": kinds["gpu"]["max_workers"]}
    assert config["max_workers"] >= max(kind.get("max_workers", 0) for kind in kinds.values())


def test_a_token_is_demanded_and_not_in_the_file() -> None:
    config = load(FILE)
    options = " ".join(config["docker"]["run_options"])
    assert "--env RAY_AUTH_MODE=token" in options
    (inside,) = config["file_mounts"]
    assert f"--env RAY_AUTH_TOKEN_PATH={inside}" in options
    assert "--privileged" not in options
    assert "--env RAY_JOB_STOP_WAIT_TIME_S=" in options
    assert "--dashboard-host=127.0.0.1" in " ".join(config["head_start_ray_commands"])
