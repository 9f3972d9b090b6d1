#!/usr/bin/env bash
# Bring up a Ray cluster by hand, on one machine or over ssh, with token authentication.
#
#   cluster/local.sh head [HOST …] [OPTIONS]    the head here, and over ssh a worker on each HOST, with the token copied there
#   cluster/local.sh join HOST:PORT [OPTIONS]   a worker here, by hand, after copying the token file from the head
#   cluster/local.sh stop                       ends only what this script started, here and on the HOSTs of `head`
#
# Every machine needs this checkout and its .venv at the same path. OPTIONS are those of `ray start`, for the HOSTs too.
# DASHBOARD=1 adds the dashboard and the job API, on loopback (needs ray[default]); SSH="ssh -p 2222" is how HOSTs are reached.
# The sweep then runs on any of them: python sweeps/ablation.py --address auto --storage /a/folder/all/machines/mount
set -euo pipefail

HERE=$(cd "$(dirname "$0")" && pwd)
RAY=${RAY:-$HERE/../.venv/bin/ray}
SSH=${SSH:-ssh}
PORT=${PORT:-6380}
STATE=${STATE:-$HOME/.resnetlab-cluster/$(hostname)} # by host: a home may be shared
DASHBOARD=${DASHBOARD:-}
export RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
export OMP_WAIT_POLICY=PASSIVE
umask 077

refuse() {
    echo "error: $*" >&2
    exit 2
}

guarded() { # Ray listens on every interface, whatever address it is given: nothing is started without a token
    [ "${RAY_AUTH_MODE:-token}" = token ] ||
        refuse "RAY_AUTH_MODE=$RAY_AUTH_MODE: anyone who reaches this host could run code on it (allowed: token)"
    export RAY_AUTH_MODE=token
    local version
    version=$("$RAY" --version | grep -oE '[0-9]+\.[0-9]+' | head -1) || refuse "$RAY: is no Ray (set RAY)"
    [ "${version%.*}" -gt 2 ] || [ "${version#*.}" -ge 52 ] ||
        refuse "Ray $version knows no tokens, so that anyone who reaches this host could run code on it (allowed: 2.52 or newer)"
}

token() { # make: where there is none
    [ -z "${RAY_AUTH_TOKEN:-}" ] || return 0
    if [ ! -e "$RAY_AUTH_TOKEN_PATH" ] && [ "${1:-}" = make ]; then
        { mkdir -p "$(dirname "$RAY_AUTH_TOKEN_PATH")" && head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' > "$RAY_AUTH_TOKEN_PATH"; } ||
            refuse "$RAY_AUTH_TOKEN_PATH: no token can be written there (set RAY_AUTH_TOKEN_PATH)"
        echo "made a token in $RAY_AUTH_TOKEN_PATH: copy it to every machine, mode 600"
    fi
    grep -qE '[^[:space:]]{16}' "$RAY_AUTH_TOKEN_PATH" 2> /dev/null ||
        refuse "$RAY_AUTH_TOKEN_PATH: holds no token of 16 characters or more (copy it from the head; there, delete it for a new one)"
    if [ -n "$(find -L "$RAY_AUTH_TOKEN_PATH" -perm /077)" ]; then
        chmod 600 "$RAY_AUTH_TOKEN_PATH" 2> /dev/null ||
            refuse "$RAY_AUTH_TOKEN_PATH: others may read it, and its mode cannot be changed (need 600)"
        echo "others could read $RAY_AUTH_TOKEN_PATH, which now has mode 600; where there are others, delete it for a new one"
    fi
}

start() { # keeps Ray in the foreground of a process of our own, so that stopping it stops nothing else
    mkdir -p "$STATE"
    nohup setsid "$RAY" start --block --disable-usage-stats "$@" > "$STATE/ray.log" 2>&1 < /dev/null &
    echo $! > "$STATE/pid"
    for _ in $(seq 240); do
        grep -q "Ray runtime started" "$STATE/ray.log" && return
        kill -0 "$(cat "$STATE/pid")" 2>/dev/null || break
        sleep 0.25
    done
    cat "$STATE/ray.log" >&2
    rm -f "$STATE/pid"
    exit 1
}

there() { # HOST WORDS…: this script on HOST, with the same settings
    local host=$1
    shift
    # shellcheck disable=SC2029  # meant for the other side
    $SSH "$host" "$(printf '%q ' env RAY="$RAY" RAY_AUTH_TOKEN_PATH="$RAY_AUTH_TOKEN_PATH" "$HERE/local.sh" "$@")"
}

give_token() { # HOST: the token goes through a pipe and beside its place, which may be this very file
    local path
    path=$(printf %q "$RAY_AUTH_TOKEN_PATH")
    # shellcheck disable=SC2029
    $SSH "$1" "umask 077; mkdir -p \$(dirname $path) && cat > $path.new && mv $path.new $path" \
        <<< "${RAY_AUTH_TOKEN:-$(cat "$RAY_AUTH_TOKEN_PATH")}"
}

case "${1:-}" in
head)
    shift
    guarded
    token make
    hosts=()
    while [ -n "${1:-}" ] && [[ $1 != -* ]]; do hosts+=("$1"); shift; done
    dashboard=(--include-dashboard=false)
    [ -z "$DASHBOARD" ] || dashboard=(--include-dashboard=true --dashboard-host=127.0.0.1)
    start --head --port="$PORT" "${dashboard[@]}" "$@"
    address=$(hostname -I | cut -d' ' -f1):$PORT
    [ ${#hosts[@]} = 0 ] || printf '%s\n' "${hosts[@]}" > "$STATE/hosts"
    for host in ${hosts[@]+"${hosts[@]}"}; do
        give_token "$host"
        there "$host" join "$address" "$@"
    done
    echo "head is up. On further machines: cluster/local.sh join $address"
    echo "To run a sweep in this shell:      export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$RAY_AUTH_TOKEN_PATH"
    ;;
join)
    shift
    [ -n "${1:-}" ] || refuse "join needs HOST:PORT of the head"
    guarded
    token
    start --address="$@"
    echo "$(hostname) joined $1"
    ;;
stop)
    while read -r host; do
        there "$host" stop < /dev/null || echo "$host: not reached; what runs there ends without its head" >&2
    done < <(cat "$STATE/hosts" 2> /dev/null)
    rm -f "$STATE/hosts"
    [ -s "$STATE/pid" ] || { echo "nothing was started here" >&2; exit 0; }
    kill -TERM "$(cat "$STATE/pid")" 2>/dev/null || true
    rm -f "$STATE/pid"
    ;;
*)
    sed -n '2,10p' "$0" | sed 's/^# \{0,1\}//'
    exit 2
    ;;
esac
