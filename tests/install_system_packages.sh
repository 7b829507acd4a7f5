#!/usr/bin/env bash
# Debian packages of the system tests: a browser. Needs root; does nothing where it is there already.
set -euo pipefail
if command -v chromium >/dev/null; then exit 0; fi
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "install chromium by hand: this needs root on a Debian system" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null
