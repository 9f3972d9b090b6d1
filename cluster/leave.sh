#!/usr/bin/env bash
# This node is about to be taken away (a spot notice, `kubectl drain`, maintenance): hand its trials on without a loss.
# leave.sh [SECONDS]     run on the node itself, in the environment in which its Ray was started; default 120
# Ray puts nothing new here. Each trial finishes the epoch that is under way, writes a checkpoint and goes on elsewhere.
set -eu
seconds=${1:-120}
ray drain-node --reason DRAIN_NODE_REASON_PREEMPTION --reason-message "leaving" \
    --deadline-remaining-seconds "$seconds" || echo "Ray was not told: new trials may still come here" >&2

trials() { pgrep -u "$(id -u)" -f '^ray::(TrialWorker|ResourceTrainable)' || true; }

for pid in $(trials); do kill -TERM "$pid" || true; done
for _ in $(seq "$seconds"); do
    [ -z "$(trials)" ] && exit 0
    sleep 1
done
echo "not done after $seconds s: $(trials | wc -l) trials lose the epoch that is under way" >&2
exit 1
