#!/usr/bin/env bash
# Bring up a Ray cluster by hand, on one machine or over ssh, with token authentication.
#
#   cluster/local.sh head               on the first machine; prints the command for the others
#   cluster/local.sh join HOST:PORT     on every further machine, with the same token file and the same checkout
#   cluster/local.sh stop               on each machine: ends only what this script started there
#
# The sweep then runs on any of them: python sweeps/ablation.py --address auto --storage /a/folder/all/machines/mount
set -euo pipefail

RAY=${RAY:-$(dirname "$0")/../.venv/bin/ray}
PORT=${PORT:-6380}
STATE=${STATE:-$HOME/.resnetlab-cluster}
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
export OMP_WAIT_POLICY=PASSIVE
umask 077

token() {
    if [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
        mkdir -p "$(dirname "$RAY_AUTH_TOKEN_PATH")"
        head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' > "$RAY_AUTH_TOKEN_PATH"
        echo "made a token in $RAY_AUTH_TOKEN_PATH: copy it to every machine, mode 600"
    fi
}

start() { # keeps Ray in the foreground of a process of our own, so that stopping it stops nothing else
    mkdir -p "$STATE"
    nohup setsid "$RAY" start --block "$@" > "$STATE/ray.log" 2>&1 &
    echo $! > "$STATE/pid"
    for _ in $(seq 60); do
        grep -q "Ray runtime started" "$STATE/ray.log" && return
        kill -0 "$(cat "$STATE/pid")" 2>/dev/null || break
        sleep 0.5
    done
    cat "$STATE/ray.log" >&2
    exit 1
}

case "${1:-}" in
head)
    token
    start --head --port="$PORT" --include-dashboard=false
    address=$(hostname -I | cut -d' ' -f1):$PORT
    echo "head is up. On the other machines: cluster/local.sh join $address"
    echo "To run a sweep in this shell:      export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$RAY_AUTH_TOKEN_PATH"
    ;;
join)
    [ -n "${2:-}" ] || { echo "join needs HOST:PORT of the head" >&2; exit 2; }
    [ -s "$RAY_AUTH_TOKEN_PATH" ] || { echo "no token in $RAY_AUTH_TOKEN_PATH: copy it from the head" >&2; exit 2; }
    start --address="$2"
    echo "joined $2"
    ;;
stop)
    [ -s "$STATE/pid" ] || { echo "nothing was started here" >&2; exit 0; }
    kill -TERM "$(cat "$STATE/pid")" 2>/dev/null || true
    rm -f "$STATE/pid"
    ;;
*)
    sed -n '2,8p' "$0" | sed 's/^# \{0,1\}//'
    exit 2
    ;;
esac
