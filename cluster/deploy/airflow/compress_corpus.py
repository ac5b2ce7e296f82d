"""An Airflow 3 DAG: every night a new snapshot, compressed on a standing Ray cluster and verified.

It only calls `ray job submit`. Airflow's workers need the cluster's version of ``ray[default]`` and these variables:
RAY_API_SERVER_ADDRESS (``http://compress-head-svc:8265``), RAY_AUTH_MODE=token and RAY_AUTH_TOKEN.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow.providers.standard.operators.bash import BashOperator  # type: ignore[import-not-found, unused-ignore]
from airflow.sdk import DAG  # type: ignore[import-not-found, unused-ignore]

INPUT = "s3://bucket/corpus"
OUTPUT = "s3://bucket/compressed/{{ dag_run.run_after | ds }}"
"""One folder for each run; a retry has the same and goes on in it."""
REUSE = "s3://bucket/compressed/*"
"""The last complete of these: what did not change is taken over from it. The first run finds none."""

WORKERS = "--cpus-per-worker 1 --workers 32"
"""What is asked of the cluster. With a language model: ``--method llmlingua --gpus-per-worker 1 --workers 8``."""

COMPRESS = f"""
id=compress-$(date +%s)-$$
trap 'ray job stop "$id"' TERM INT
ray job submit --submission-id "$id" \\
  --runtime-env-json '{{"env_vars": {{"RAY_JOB_STOP_WAIT_TIME_S": "60"}}}}' -- \\
  python -m jobs.compress --input {INPUT} --output {OUTPUT} --reuse '{REUSE}' \\
  --rate 0.5 {WORKERS} &
wait "$!"
"""
"""A task that is cleared or times out takes its Ray job with it; each try is a submission of its own."""

VERIFY = f"ray job submit -- python -m jobs.verify {OUTPUT}"
"""`ray job submit` ends well for a job that somebody stopped: this tells whether every row is there."""

with DAG(
    dag_id="compress_corpus",
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,  # the past has no snapshots
    max_active_runs=1,  # one after the other: they share the GPUs
    default_args={
        "retries": 3,
        "retry_delay": timedelta(
            minutes=2
        ),  # longer than a dead driver's lease lasts (60 s): no retry has to wait for it
        "execution_timeout": timedelta(hours=20),
    },
) as dag:
    compress = BashOperator(task_id="compress", bash_command=COMPRESS)
    verify = BashOperator(task_id="verify", bash_command=VERIFY)
    compress >> verify
