"""The files for `ray up` against Ray's own schema and, for AWS, against the description of the EC2 interface."""

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

FILES = ("ray-up/aws.yaml", "ray-up/gcp.yaml")


@pytest.mark.parametrize("name", FILES)
def test_ray_accepts_it(name: str) -> None:
    config = prepare_config(load(name))
    validate_config(config)
    assert config["head_node_type"] == "head"


@pytest.mark.parametrize("place", [(), ("docker",), ("auth",), ("available_node_types", "gpu")])
def test_a_misspelt_field_is_found(place: tuple[str, ...]) -> None:
    config = load(FILES[0])
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
    node = load("ray-up/aws.yaml")["available_node_types"][kind]["node_config"]
    assert run_instances_report(node) == ""
    assert "Unknown parameter" in run_instances_report({**copy.deepcopy(node), "InstanceTyp": "m6i.xlarge"})


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
@pytest.mark.parametrize("name", FILES)
def test_workers_are_spot_machines_that_start_at_none_and_the_head_is_not(name: str, kind: str) -> None:
    kinds = load(name)["available_node_types"]
    machine = kinds[kind]["node_config"]
    spot = (
        machine.get("InstanceMarketOptions", {}).get("MarketType"),
        machine.get("scheduling", {}).get("provisioningModel"),
    )
    assert spot in {("spot", None), (None, "SPOT")}
    assert kinds[kind]["min_workers"] == 0
    assert not {"InstanceMarketOptions", "scheduling"} & set(kinds["head"]["node_config"])
    assert kinds["head"]["resources"]["CPU"] == 0


@pytest.mark.parametrize("name", FILES)
def test_the_command_in_it_gets_all_machines_of_the_type_that_its_method_needs(name: str) -> None:
    (arguments,) = compress_arguments((DEPLOY / name).read_text())
    config = load(name)
    kinds = config["available_node_types"]
    assert started(kinds, JobConfig.load(arguments, {})) == {"cpu": kinds["cpu"]["max_workers"]}
    assert " ".join(SWITCHED) in (DEPLOY / name).read_text()
    switched = JobConfig.load(["--input", "in", "--output", "out", *SWITCHED], {})
    assert started(kinds, switched) == {"gpu": kinds["gpu"]["max_workers"]}
    assert config["max_workers"] >= max(kind.get("max_workers", 0) for kind in kinds.values())


@pytest.mark.parametrize("name", FILES)
def test_a_token_is_demanded_and_not_in_the_file(name: str) -> None:
    config = load(name)
    options = " ".join(config["docker"]["run_options"])
    assert "--env RAY_AUTH_MODE=token" in options
    (inside,) = config["file_mounts"]
    assert f"--env RAY_AUTH_TOKEN_PATH={inside}" in options
    assert "--privileged" not in options
    assert "--env RAY_JOB_STOP_WAIT_TIME_S=" in options
    assert "--dashboard-host=127.0.0.1" in " ".join(config["head_start_ray_commands"])
