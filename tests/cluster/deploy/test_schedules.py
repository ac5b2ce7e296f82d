"""The schedule that submits to a standing cluster: a CronJob of Kubernetes."""

from __future__ import annotations

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
