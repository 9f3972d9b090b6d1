#!/usr/bin/env bash
# Install what `make test-cluster` needs beside the Python environment, from Debian's own packages, and say what that was.
# The packages' services are not started: the test starts its own, in namespaces, and ends them.
set -euo pipefail

WANTED=(slurmctld slurmd slurm-client munge openssh-server openssh-client iproute2 util-linux nftables)
missing=()
for package in "${WANTED[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' > "$policy"
        chmod +x "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
fi
dpkg-query -W -f='${Package} ${Version}\n' "${WANTED[@]}"
