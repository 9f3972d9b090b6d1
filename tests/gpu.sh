#!/usr/bin/env bash
# The tests that need a GPU, checks of what the CUDA code must do, and its speed (benchmarks/gpu.py): at most ten
# minutes, no network, no Ray. Leaves gpu.json and gpu.txt, what was measured and what was printed. Every result is
# written as soon as it is there; called again, it goes on with what is missing, and --again begins anew.
#
#   tests/gpu.sh [--again] [--results FOLDER]     FOLDER: build/gpu unless it is given
#   tests/gpu.sh --device cpu [...]               a little of everything on the CPU, to see that the checks run
#
# PYTHON names the interpreter: .venv/bin/python where it is there, else python3. It needs numpy, pydantic, pyyaml,
# psutil, scipy, safetensors, pillow and matplotlib beside torch and torchvision; the tests pytest and hypothesis.
#
# Exit codes: 0, all ran and is as it must be; 1, something failed or is not; 75, the time was up; 77, no GPU here.
set -euo pipefail
cd "$(dirname "$0")/.."
here=.venv/bin/python
[ -x "$here" ] || here=python3
python=${PYTHON:-$here}
results=build/gpu
device=cuda
how=()
while [ $# -gt 0 ]; do
    case $1 in
        --device) device=${2:?--device: cuda or cpu}; shift 2 ;;
        --results) results=${2:?--results: a folder}; shift 2 ;;
        --again) how+=(--again); shift ;;
        *) echo "tests/gpu.sh: $1: no such option (allowed: --device, --results, --again)" >&2; exit 2 ;;
    esac
done
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} NO_COLOR=1
case $device in
    cuda)
        if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2> /dev/null; then
            echo "tests/gpu.sh: $python: torch sees no GPU here: nothing was tested or measured" >&2
            exit 77
        fi ;;
    cpu) how+=(--quick); export CUDA_VISIBLE_DEVICES= HIP_VISIBLE_DEVICES= ;;
    *) echo "tests/gpu.sh: --device $device: no such device (allowed: cuda, cpu)" >&2; exit 2 ;;
esac
mkdir -p "$results"
code=0
{
    date -u
    nvidia-smi 2> /dev/null || true
    timeout --signal=INT --kill-after=20 580 "$python" benchmarks/gpu.py --results "$results" ${how[@]+"${how[@]}"}
} 2>&1 | tee -a "$results/gpu.txt" || code=$?
[ "$code" != 124 ] || code=75 # the time was up
echo "left: $results/gpu.json, $results/gpu.txt"
exit "$code"
