"""The manifests for Kubernetes against KubeRay's own schemas, and against what the job needs to run there."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.runtime_env import RuntimeEnv

from cluster.config import JobConfig
from tests.cluster.deploy.autoscaler import SWITCHED, groups, started
from tests.cluster.deploy.command_lines import compress_arguments
from tests.cluster.deploy.manifests import DEPLOY, containers, load, pinned, pods, walk
from tests.cluster.deploy.schemas import errors, schema_of

RAY_FILES = ("kuberay/rayjob.yaml", "kuberay/raycronjob.yaml", "kuberay/raycluster.yaml")
POD_FILES = (*RAY_FILES, "kuberay/cronjob.yaml")
SUBMITTERS = ("kuberay/cronjob.yaml",)


def cluster_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """The specification of the Ray cluster in a RayJob, a RayCronJob or a RayCluster."""
    return next(value for value in walk(manifest) if isinstance(value, dict) and "headGroupSpec" in value)


def job_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """The specification of a RayJob, by itself or on a schedule."""
    return next(value for value in walk(manifest) if isinstance(value, dict) and "entrypoint" in value)


def arguments_of(manifest: dict[str, Any]) -> list[str]:
    """The arguments of the one call of the job in a manifest."""
    found = [call for text in walk(manifest) if isinstance(text, str) for call in compress_arguments(text)]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("name", RAY_FILES)
def test_kuberays_own_schema_knows_every_field(name: str, shared_data: Path) -> None:
    manifest = load(name)
    assert manifest["apiVersion"] == "ray.io/v1"
    assert errors(schema_of(manifest["kind"], shared_data), manifest) == []


@pytest.mark.parametrize("name", RAY_FILES)
def test_a_misspelt_field_or_a_wrong_type_is_found_at_any_depth(name: str, shared_data: Path) -> None:
    manifest = load(name)
    schema = schema_of(manifest["kind"], shared_data)
    places = [value for value in walk(manifest) if isinstance(value, dict)]
    free = [id(value.get(key)) for value in places for key in ("limits", "requests", "rayStartParams")]
    for at, place in enumerate(places):
        if id(place) in free:  # maps with keys of the user's own
            continue
        damaged = copy.deepcopy(manifest)
        target = [value for value in walk(damaged) if isinstance(value, dict)][at]
        target["mispelt"] = "value"
        assert errors(schema, damaged), f"nobody minds a misspelt field in {place}"
    damaged = copy.deepcopy(manifest)
    cluster_of(damaged)["workerGroupSpecs"][0]["maxReplicas"] = "eight"
    assert errors(schema, damaged)


@pytest.mark.parametrize("name", POD_FILES)
def test_containers_have_no_privileges_and_bounded_resources(name: str) -> None:
    found = containers(load(name))
    assert found
    for container in found:
        security = container["securityContext"]
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert not security.get("privileged")
        for bound in ("requests", "limits"):
            assert {"cpu", "memory"} <= set(container["resources"][bound])
        assert re.fullmatch(r"[\w./-]+:(?!latest$)[\w.-]+", container["image"])


@pytest.mark.parametrize("name", POD_FILES)
def test_pods_run_as_a_user_and_get_no_variables_from_services(name: str) -> None:
    for pod in pods(load(name)):
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert not any("hostPath" in volume for volume in pod.get("volumes", ()))


@pytest.mark.parametrize("name", POD_FILES)
def test_secrets_come_from_secrets(name: str) -> None:
    for container in containers(load(name)):
        for variable in container.get("env", ()):
            if re.search("KEY|SECRET|PASSWORD|TOKEN", variable["name"]):
                assert "secretKeyRef" in variable["valueFrom"], variable["name"]


@pytest.mark.parametrize("name", POD_FILES)
def test_names_do_not_become_settings_by_way_of_service_variables(name: str) -> None:
    metadata = load(name)["metadata"]["name"]
    assert not metadata.startswith("lingua")
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", metadata)
    assert len(metadata) <= 47  # what KubeRay allows for a RayJob


@pytest.mark.parametrize("name", ["kuberay/rayjob.yaml", "kuberay/raycronjob.yaml", *SUBMITTERS])
def test_the_job_accepts_its_flags_and_the_environment_of_its_head(name: str) -> None:
    manifest = load(name)
    head = cluster_of(manifest if name not in SUBMITTERS else load("kuberay/raycluster.yaml"))["headGroupSpec"]
    environment = {entry["name"]: entry.get("value", "") for entry in pods(head)[0]["containers"][0]["env"]}
    JobConfig.load(arguments_of(manifest), environment)
    assert "RAY_ADDRESS" not in environment  # inside a job, Ray says where it is


@pytest.mark.parametrize("name", ["kuberay/rayjob.yaml", "kuberay/raycronjob.yaml", *SUBMITTERS])
def test_the_job_gets_all_pods_of_the_group_that_its_method_needs_and_none_of_the_other(name: str) -> None:
    manifest = load(name)
    cluster = cluster_of(manifest if name not in SUBMITTERS else load("kuberay/raycluster.yaml"))
    assert {group["minReplicas"] for group in cluster["workerGroupSpecs"]} == {0}
    given, kinds = arguments_of(manifest), groups(cluster)
    assert started(kinds, JobConfig.load(given, {})) == {"cpu": kinds["cpu"]["max_workers"]}
    assert " ".join(SWITCHED) in (DEPLOY / name).read_text()
    switched = JobConfig.load(["--input", "in", "--output", "out", *SWITCHED], {})
    assert started(kinds, switched) == {"gpu": kinds["gpu"]["max_workers"]}


def test_all_three_start_the_same_cluster() -> None:
    job, cron, standing = (copy.deepcopy(cluster_of(load(name))) for name in RAY_FILES)
    assert standing["authOptions"].pop("secretName") == "compress-auth"
    assert job == cron == standing
    assert job["authOptions"] == {"mode": "token"}


@pytest.mark.parametrize("name", SUBMITTERS)
def test_who_submits_carries_the_token_of_the_standing_cluster(name: str) -> None:
    standing = load("kuberay/raycluster.yaml")
    for container in containers(load(name)):
        variables = {entry["name"]: entry for entry in container["env"]}
        reference = variables["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]
        assert reference == {"name": standing["spec"]["authOptions"]["secretName"], "key": "auth_token"}
        assert variables["RAY_AUTH_MODE"]["value"] == "token"
        service = f"http://{standing['metadata']['name']}-head-svc:8265"
        assert variables["RAY_API_SERVER_ADDRESS"]["value"] == service


@pytest.mark.parametrize("name", RAY_FILES)
def test_the_cluster_names_the_ray_that_is_tested(name: str) -> None:
    assert cluster_of(load(name))["rayVersion"] == pinned("ray")


@pytest.mark.parametrize("name", ["kuberay/rayjob.yaml", "kuberay/raycronjob.yaml"])
def test_a_failed_job_is_submitted_again_and_its_cluster_goes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from cluster.stopping import grace_seconds

    spec = job_of(load(name))
    assert spec["backoffLimit"] > 0
    assert spec["shutdownAfterJobFinishes"] is True
    environment = RuntimeEnv(**yaml.safe_load(spec["runtimeEnvYAML"]))  # Ray's own check of it
    for variable, value in environment.env_vars().items():
        monkeypatch.setenv(variable, value)
    assert grace_seconds() > 30


@pytest.mark.parametrize("name", ["kuberay/cronjob.yaml", "kuberay/rayjob.yaml"])
def test_the_volume_of_models_is_mounted_where_the_caches_are(name: str) -> None:
    claims = load("kuberay/models.yaml")
    assert claims["kind"] == "PersistentVolumeClaim"
    assert claims["spec"]["accessModes"] == ["ReadWriteMany"]
    for pod in pods(load(name)):
        for volume in pod.get("volumes", ()):
            assert volume["persistentVolumeClaim"]["claimName"] == claims["metadata"]["name"]
        for container in pod["containers"]:
            caches = [
                entry["value"] for entry in container.get("env", ()) if entry["name"] in ("HF_HOME", "LINGUA_CACHE")
            ]
            mounts = [mount["mountPath"] for mount in container.get("volumeMounts", ())]
            assert all(cache.startswith(tuple(f"{mount}/" for mount in mounts)) for cache in caches)


def test_a_submitter_that_is_taken_away_has_time_to_stop_its_job() -> None:
    pod = pods(load("kuberay/cronjob.yaml"))[0]
    wait = re.search(r'"RAY_JOB_STOP_WAIT_TIME_S": "(\d+)"', pod["containers"][0]["args"][0])
    assert wait is not None
    assert pod["terminationGracePeriodSeconds"] > int(wait[1])
