#!/bin/bash
# One node of a Ray cluster without a cluster manager: `head` or `worker` until it is terminated, or `wait` for the head.
# Its environment says where: RAY_HEAD_IP, RAY_PORT, and RAY_TEMP for sockets and logs.
set -euo pipefail

: "${RAY_HEAD_IP:?}" "${RAY_PORT:?}" "${RAY_TEMP:?}"
address=$RAY_HEAD_IP:$RAY_PORT
export RAY_USAGE_STATS_ENABLED=0
# Further options of `ray start`, such as ports.
read -ra options <<<"${RAY_OPTIONS:-}"

case ${1:-} in
head)
    exec ray start --block --head --node-ip-address="$RAY_HEAD_IP" --port="$RAY_PORT" --temp-dir="$RAY_TEMP" \
        --include-dashboard=false "${options[@]}"
    ;;
worker)
    exec ray start --block --address="$address" "${options[@]}"
    ;;
wait)
    while [ "$SECONDS" -lt "${RAY_WAIT_SECONDS:=300}" ]; do
        # Ray itself waits long where nothing listens.
        if (: <"/dev/tcp/$RAY_HEAD_IP/$RAY_PORT") 2>/dev/null && ray status --address "$address" &>/dev/null; then
            exit 0
        fi
        sleep 1
    done
    echo "no Ray head has answered at $address for $RAY_WAIT_SECONDS s" >&2
    exit 1
    ;;
*)
    echo "usage: ray_node.sh head|worker|wait" >&2
    exit 2
    ;;
esac
