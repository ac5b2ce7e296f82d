#!/usr/bin/env bash
# Everything that is measured on a GPU, in nine minutes at most: bash jobs/benchmarking/gpu.sh DIR [STEP…]
#
# The weights are random in published shapes: no download, no Ray, no network. Every step ends at its limit, with all that
# it started; DIR/STEP holds what it measured until then (benchmark.md, actors.json) and what it said (log).
#
#   PYTHON=…   the interpreter (python)
#   PEER=…     flags that say where the public library is: PEER='--peer-python python3.12 --peer-path /packages'
#   SMALL=1    tiny shapes on a CPU, to try the command out
set -u
mkdir -p "${1:?usage: gpu.sh DIR [STEP…]}"
out=$(cd "$1" && pwd)
shift
wanted=" ${*:-tests small large encoder compile mixed actors} "
cd "$(dirname "$0")/../.."

if [[ -n "${SMALL:-}" ]]; then
    place='--device cpu --dtype float32' small=shape:tiny large=shape:tiny encoder=shape:tiny-encoder
    rows=(4 2 2) actors='--actors 1 --actors 2' size=:80 long=:80
else
    place='--device cuda --dtype bfloat16' small=shape:smollm2-135m large=shape:llama-2-7b encoder=shape:xlm-roberta-large
    rows=(256 64 64) actors='--actors 1 --actors 2 --actors 4 --actors 8' size= long=:5000
fi

# cuDNN's attention makes a plan for every new length, which would slow the peer and the plain forward down; what one step
# compiled serves the next. The peer reads its copy of the largest weights from memory, where 40 GB are free there.
export PYTHONUNBUFFERED=1 HF_HUB_OFFLINE=1 TORCH_CUDNN_SDPA_DEPRIORITIZED=1
export TORCHINDUCTOR_CACHE_DIR="${TMPDIR:-/tmp}/lingua-inductor"
free=$(df --output=avail --block-size=1G /dev/shm 2>/dev/null | tail -1)
((${free:-0} > 40)) && export TMPDIR=/dev/shm
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
trap 'exit 143' TERM
failed=0

step() { # NAME SECONDS ARGUMENTS…: what the interpreter does in so many seconds, if the step is wanted and there is time
    local name=$1 seconds=$2 left=$((530 - SECONDS)) code
    shift 2
    [[ "$wanted" == *" $name "* ]] || return 0
    ((seconds = seconds < left ? seconds : left))
    mkdir -p "$out/$name"
    if ((seconds > 4)); then
        TMPDIR=$scratch timeout --kill-after=5 "$seconds" "${PYTHON:-python}" "$@" >"$out/$name/log" 2>&1
        code=$?
        rm -rf "${scratch:?}"/*
    else
        code='not begun: no time was left'
    fi
    echo "$name: exit ${code/#124/124 (stopped at its limit)}"
    [[ "$code" == 0 ]] || failed=1
}

benchmark() { # NAME SECONDS FLAGS…
    step "$1" "$2" -m jobs.benchmark $place --slow-rows 2 --output "$out/$1" ${PEER:-} "${@:3}"
}

both='--beside llmlingua --beside plain'
step tests 100 -m pytest -m gpu -o addopts= -o filterwarnings=default -vv --color=no -p no:cacheprovider
benchmark small 80 --model $small --mix fewshot$size --rows ${rows[0]} --gpu-memory 0.6 $both --rounds 2
benchmark large 115 --model $large --mix fewshot$size --rows ${rows[1]} --gpu-memory 0.6 $both --rounds 1
benchmark encoder 70 --model $encoder --method llmlingua2 --mix long$long --rows ${rows[2]} $both --rounds 1
benchmark compile 130 --model $small --mix fewshot$size --rows ${rows[0]} --beside compile --rounds 1
benchmark mixed 70 --model $small --mix mixed$size --rows ${rows[0]} --beside llmlingua --rounds 1
step actors 90 -m jobs.benchmarking.actors $place --model $small --mix fewshot$size --rows $((rows[0] / 2)) $actors \
    --output "$out/actors"
exit $failed
