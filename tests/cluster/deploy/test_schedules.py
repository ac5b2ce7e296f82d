"""The schedules that submit to a standing cluster: a CronJob of Kubernetes and a CronWorkflow of Argo."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

from tests.cluster.deploy.manifests import load
from tests.cluster.deploy.schemas import NUMBER, TEXT, errors, schema_of

JOB_FIELDS = ("backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished", "parallelism", "completions")
CRON_JOB = {
    "schedule": {"type": "string", "pattern": r"^(\S+ ){4}\S+$"},
    "timeZone": TEXT,
    "concurrencyPolicy": {"enum": ["Allow", "Forbid", "Replace"]},
    "startingDeadlineSeconds": NUMBER,
    "successfulJobsHistoryLimit": NUMBER,
    "failedJobsHistoryLimit": NUMBER,
    "suspend": {"type": "boolean"},
}
"""batch/v1, as far as it is used: its pods are checked with the pod schema that KubeRay's definitions contain."""


CRON_WORKFLOW = {
    "schedules",
    "timezone",
    "concurrencyPolicy",
    "startingDeadlineSeconds",
    "successfulJobsHistoryLimit",
    "failedJobsHistoryLimit",
    "suspend",
    "workflowSpec",
}
WORKFLOW = {"entrypoint", "activeDeadlineSeconds", "ttlStrategy", "securityContext", "arguments", "templates"}
"""argoproj.io/v1alpha1, as far as it is used: its containers are checked with the schema of a pod's."""


def test_the_plain_schedule_is_a_cron_job_with_a_real_pod(shared_data: Path) -> None:
    manifest = load("kuberay/cronjob.yaml")
    assert (manifest["apiVersion"], manifest["kind"]) == ("batch/v1", "CronJob")
    pod = schema_of("RayJob", shared_data)["properties"]["spec"]["properties"]["submitterPodTemplate"]
    job = {**dict.fromkeys(JOB_FIELDS, NUMBER), "template": pod}
    spec = {"type": "object", "additionalProperties": False, "required": ["template"], "properties": job}
    template = {"type": "object", "additionalProperties": False, "required": ["spec"], "properties": {"spec": spec}}
    whole = {"type": "object", "additionalProperties": False, "properties": {**CRON_JOB, "jobTemplate": template}}
    assert errors(whole, manifest["spec"]) == []
    assert manifest["spec"]["concurrencyPolicy"] == "Forbid"


def test_argos_containers_are_real_containers_and_its_steps_exist(shared_data: Path) -> None:
    manifest = load("argo/compress.yaml")
    assert (manifest["apiVersion"], manifest["kind"]) == ("argoproj.io/v1alpha1", "CronWorkflow")
    assert set(manifest["spec"]) <= CRON_WORKFLOW
    assert set(manifest["spec"]["workflowSpec"]) <= WORKFLOW
    pod = schema_of("RayJob", shared_data)["properties"]["spec"]["properties"]["submitterPodTemplate"]
    schema = copy.deepcopy(pod["properties"]["spec"]["properties"]["containers"]["items"])
    schema["required"] = []  # Argo names the container
    workflow = manifest["spec"]["workflowSpec"]
    templates = {template["name"]: template for template in workflow["templates"]}
    for template in templates.values():
        assert set(template) <= {"name", "steps", "container", "retryStrategy"}
        assert errors(schema, template.get("container", {})) == []
    steps = [step["template"] for stage in templates[workflow["entrypoint"]]["steps"] for step in stage]
    assert steps == ["compress", "verify"]
    assert set(steps) <= set(templates)
    parameters = {parameter["name"] for parameter in workflow["arguments"]["parameters"]}
    used = re.findall(r"\{\{workflow\.parameters\.(\w+)\}\}", json.dumps(manifest))
    assert set(used) == parameters
