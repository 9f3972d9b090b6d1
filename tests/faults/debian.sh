#!/usr/bin/env bash
# Install what `make faults` can use beside the Python environment, from Debian's own packages: a clock that can be set back.
set -euo pipefail

command -v faketime > /dev/null && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get > /dev/null; then
    echo "faketime is not installed, and only root on Debian can have it installed here; experiment 16 leaves out real drivers"
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends faketime > /dev/null
