#!/usr/bin/env bash
# This node is about to be taken away (a spot notice, `kubectl drain`, maintenance): hand its trials on without a loss.
# leave.sh [SECONDS]     on the node itself, with the token and RAY_ADDRESS=HOST:PORT of its cluster; default 120
# Ray puts nothing new here. Each trial finishes the epoch that is under way, writes a checkpoint and goes on elsewhere.
set -eu
seconds=${1:-120}
address=${RAY_ADDRESS:?set RAY_ADDRESS to the HOST:PORT of the cluster}
raylets=$(pgrep -f "raylet/raylet .*--gcs-address=[^ ]*:${address##*:}( |\$)") || {
    echo "no node of $address runs here" >&2
    exit 2
}
timeout "$seconds" "${RAY:-ray}" drain-node --address "$address" --reason DRAIN_NODE_REASON_PREEMPTION \
    --reason-message leaving --deadline-remaining-seconds "$seconds" \
    || echo "Ray was not told: new trials may still come here" >&2

trials() { # the workers of this cluster's nodes on this machine
    for raylet in $raylets; do
        pgrep -P "$raylet" -f '^ray::(TrialWorker|ResourceTrainable)' || true
    done
}

for pid in $(trials); do kill -TERM "$pid" || true; done
for _ in $(seq "$seconds"); do
    [ -z "$(trials)" ] && exit 0
    sleep 1
done
echo "not done after $seconds s: $(trials | wc -w) trials lose the epoch that is under way" >&2
exit 1
