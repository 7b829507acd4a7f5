#!/usr/bin/env bash
# Debian packages of the system tests: a browser, SLURM. Needs root; does nothing where all are there already.
set -euo pipefail
missing=
for program in chromium slurmctld slurmd srun munged; do
    command -v $program >/dev/null || missing+=" $program"
done
[[ -n $missing ]] || exit 0
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "install$missing by hand: this needs root on a Debian system" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends \
    chromium fonts-dejavu-core slurmctld slurmd slurm-client munge >/dev/null
