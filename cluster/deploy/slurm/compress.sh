#!/usr/bin/env bash
# A Ray cluster for the time of one Slurm job, and the corpus job in it.
#
#   export VENV=$HOME/lingua/.venv INPUT=/data/corpus OUTPUT=/data/compressed
#   sbatch cluster/deploy/slurm/compress.sh
#   sbatch --gpus-per-node=4 cluster/deploy/slurm/compress.sh --method llmlingua   # with a language model
#
# What stands behind the script goes to the job. With GPUs there is a worker for each of them, else for each processor.
# The batch script runs on the first node and drives; every node, the first too, runs `ray start`. OUTPUT must be seen
# by all nodes and know hard links (Lustre, NFS, GPFS), or be an object store.
#SBATCH --job-name=compress
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1       # one `ray start` per node
#SBATCH --cpus-per-task=32
#SBATCH --mem=0                   # all memory of each node
#SBATCH --time=12:00:00
#SBATCH --requeue                 # after the loss of a node it starts again and does what is not committed
#SBATCH --open-mode=append        # one log over all starts
#SBATCH --signal=B:USR1@120       # two minutes before the time is over: stop cleanly and queue again
set -euo pipefail

: "${INPUT:?what to compress}" "${OUTPUT:?where to write it}"
# shellcheck disable=SC1091
source "${VENV:?the environment Lingua is installed in}/bin/activate"

# A token of this job's own: other users of these nodes can reach Ray's ports, and can do nothing there.
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token
export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"  # srun does not take it over by itself since Slurm 22.05
export RAY_USAGE_STATS_ENABLED=0       # no report to the makers of Ray
export RAY_JOB_STOP_WAIT_TIME_S=100    # seconds a stopped driver has, less than Slurm's 120

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
address=$(srun --nodes=1 --ntasks=1 --nodelist="${nodes[0]}" hostname --ip-address | awk '{print $1; exit}')
port=$((20000 + SLURM_JOB_ID % 10000))  # two jobs on one node do not meet

srun --nodes=1 --ntasks=1 --nodelist="${nodes[0]}" ray start --head --block \
  --node-ip-address="$address" --port="$port" --include-dashboard=false --num-cpus="$SLURM_CPUS_PER_TASK" &
tries=60  # two minutes
until ray status --address="$address:$port" > /dev/null 2>&1; do
  ((tries--)) || { echo "Ray did not start on ${nodes[0]}" >&2; exit 1; }
  sleep 2
done
others=$((${#nodes[@]} - 1))
if ((others)); then  # workers are used as they join; nobody waits for the last one
  srun --nodes="$others" --ntasks="$others" --exclude="${nodes[0]}" ray start --block \
    --address="$address:$port" --num-cpus="$SLURM_CPUS_PER_TASK" &
fi

each=(--cpus-per-worker 1 --workers "$((${#nodes[@]} * SLURM_CPUS_PER_TASK))")
if ((${SLURM_GPUS_ON_NODE:-0})); then
  each=(--gpus-per-worker 1 --workers "$((${#nodes[@]} * SLURM_GPUS_ON_NODE))")
fi
# Without its address the job would start a Ray of its own on this node only.
RAY_ADDRESS="$address:$port" \
  python -m jobs.compress --input "$INPUT" --output "$OUTPUT" --rate 0.5 "${each[@]}" "$@" &
driver=$!
again=no
trap 'kill -TERM "$driver"' TERM
trap 'again=yes; kill -TERM "$driver"' USR1

# A signal ends `wait` but not the driver: wait until it is gone.
status=0
wait "$driver" || status=$?
while kill -0 "$driver" 2> /dev/null; do
  status=0
  wait "$driver" || status=$?
done
if [[ $again == yes && $status -ne 0 ]]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
