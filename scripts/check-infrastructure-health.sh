#!/usr/bin/env bash
# What of the infrastructure serves, asked in each server's own protocol:
#
#   scripts/check-infrastructure-health.sh [--json] [--watch SECONDS] [SERVICE...]
#
# Without SERVICE all are asked. A line each: up, down (nobody listens), hung (it listens and does not answer in time), wrong (something
# else answers) or sick (it answers that it cannot serve), and for each that is not up the next command to run.
# The exit code is 0 if all are up, 1 if one is not, 2 for a wrong argument.
#
# MANTIS_HEALTH_HOST is where they are (127.0.0.1), MANTIS_HEALTH_TIMEOUT_S the longest wait for an answer (5),
# MANTIS_PORT_<SERVICE> another port, e.g. MANTIS_PORT_KAFKA.
# Needs bash, curl, dd, od and timeout.
set -uo pipefail

root=$(realpath "$(dirname "${BASH_SOURCE[0]}")/..")
host=${MANTIS_HEALTH_HOST:-127.0.0.1}
timeout_s=${MANTIS_HEALTH_TIMEOUT_S:-5}
services=(kafka kafka-ui postgres timescaledb influxdb redis minio mlflow prometheus grafana jaeger alertmanager
    node-exporter postgres-exporter redis-exporter)
# Asked only by name: the default cluster has none.
by_name=(zookeeper)
# What scripts/stack runs.
native=(kafka postgres timescaledb influxdb redis minio)
declare -A port=([kafka]=9092 [zookeeper]=2181 [kafka-ui]=8080 [postgres]=5432 [timescaledb]=5433 [influxdb]=8086 [redis]=6379
    [minio]=9000 [mlflow]=5000 [prometheus]=9090 [grafana]=3001 [jaeger]=16686 [alertmanager]=9093
    [node-exporter]=9100 [postgres-exporter]=9187 [redis-exporter]=9121)
# Of those that speak HTTP: the page, and what it must hold.
declare -A page=([kafka-ui]=/actuator/health [influxdb]=/health [minio]=/minio/health/ready [mlflow]=/health [prometheus]=/-/ready
    [grafana]=/api/health [jaeger]=/api/services [alertmanager]=/-/ready [node-exporter]=/metrics [postgres-exporter]=/metrics
    [redis-exporter]=/metrics)
declare -A holds=([kafka-ui]='"status":"UP"' [influxdb]='"status": *"pass"' [minio]='[Ss]erver: MinIO' [mlflow]='^OK'
    [prometheus]='Prometheus Server is Ready' [grafana]='"database": *"ok"' [jaeger]='"data"' [alertmanager]='^OK'
    [node-exporter]='^node_' [postgres-exporter]='^pg_up 1' [redis-exporter]='^redis_up 1')

main() {
    local as_json='' watch_s='' asked=()
    while [ $# -gt 0 ]; do
        case $1 in
            --json) as_json=1 ;;
            --watch)
                watch_s=${2:-}
                [[ $watch_s =~ ^[1-9][0-9]*$ ]] || usage "--watch needs seconds"
                shift
                ;;
            -h | --help)
                sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
                exit 0
                ;;
            -*) usage "there is no option $1" ;;
            *)
                is_in "$1" "${services[@]}" "${by_name[@]}" || usage "there is no service $1: ${services[*]} ${by_name[*]}"
                asked+=("$1")
                ;;
        esac
        shift
    done
    [ ${#asked[@]} -gt 0 ] || asked=("${services[@]}")
    local program
    for program in curl dd od timeout; do
        command -v "$program" >/dev/null || usage "$program is missing: install it first"
    done
    while :; do
        look "$as_json" "${asked[@]}"
        local code=$?
        [ -n "$watch_s" ] || return "$code"
        sleep "$watch_s"
        [ -n "$as_json" ] || printf '\n%(%F %T)T\n' -1
    done
}

usage() {
    printf '%s\n' "$*" "usage: scripts/check-infrastructure-health.sh [--json] [--watch SECONDS] [SERVICE...]" >&2
    exit 2
}

is_in() {
    local wanted=$1 one
    shift
    for one in "$@"; do [ "$one" != "$wanted" ] || return 0; done
    return 1
}

# Asks all of them at once and tells in their order.
look() {
    local as_json=$1 scratch service state detail code=0
    shift
    scratch=$(mktemp -d) || exit 2
    for service in "$@"; do ask "$service" >"$scratch/$service" & done
    wait
    for service in "$@"; do
        IFS=$'\t' read -r state detail <"$scratch/$service" || state=${state:-sick}
        [ "$state" = up ] || code=1
        tell "$as_json" "$service" "$state" "$detail"
    done
    rm -rf "$scratch"
    return "$code"
}

tell() {
    local as_json=$1 service=$2 state=$3 detail=$4 next=''
    [ "$state" = up ] || next=$(next_command "$service" "$state")
    if [ -n "$as_json" ]; then
        printf '{"service":"%s","address":"%s","state":"%s","detail":"%s","next":"%s"}\n' \
            "$service" "$(escaped "$host:$(port_of "$service")")" "$state" "$(escaped "$detail")" "$(escaped "$next")"
        return
    fi
    printf '%-18s %-22s %-6s %s\n' "$service" "$host:$(port_of "$service")" "$state" "$detail"
    [ -z "$next" ] || printf '%-18s next: %s\n' '' "$next"
}

escaped() { printf '%s' "$1" | tr -d '\000-\037' | sed 's/[\\"]/\\&/g'; }

port_of() {
    local variable=MANTIS_PORT_${1//-/_}
    variable=${variable^^}
    printf '%s' "${!variable:-${port[$1]}}"
}

# What to do next about a service that is not up.
next_command() {
    local service=$1 state=$2 at
    at=$(port_of "$service")
    if [ "$state" = wrong ]; then
        printf "ss -ltnp 'sport = :%s'" "$at"
    elif is_in "$service" "${native[@]}"; then
        case $state in
            down) printf '%s/scripts/stack up %s' "$root" "$service" ;;
            *) printf '%s/scripts/stack status %s' "$root" "$service" ;;
        esac
    else
        case $state in
            down) printf 'systemctl start %s' "$service" ;;
            *) printf 'journalctl -n 50 -u %s' "$service" ;;
        esac
    fi
}

# Prints `state<TAB>detail`.
ask() {
    local service=$1 at
    at=$(port_of "$service")
    # The connection first, so that "nobody listens" is told from "it does not answer".
    # shellcheck disable=SC2016
    timeout "$timeout_s" bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$host" "$at" 2>/dev/null
    case $? in
        0) ;;
        124) printf 'hung\tno connection within %s s' "$timeout_s" && return ;;
        *) printf 'down\tnobody listens' && return ;;
    esac
    case $service in
        kafka) ask_kafka "$at" ;;
        zookeeper) ask_zookeeper "$at" ;;
        postgres | timescaledb) ask_postgres "$at" ;;
        redis) ask_redis "$at" ;;
        *) ask_http "$service" "$at" ;;
    esac
}

# exchange PORT BYTES COUNT: sends bytes (as printf escapes), prints up to COUNT bytes of the answer in hexadecimal digits.
exchange() {
    # shellcheck disable=SC2016
    timeout "$timeout_s" bash -c '
        exec 3<>"/dev/tcp/$0/$1" || exit 1
        printf "$2" >&3
        # One read: whoever waits for more leaves the connection open.
        dd bs="$3" count=1 <&3
    ' "$host" "$1" "$2" "$3" 2>/dev/null | od -An -v -tx1 | tr -d ' \n'
    return "${PIPESTATUS[0]}"
}

# answered PORT BYTES COUNT: the answer into the caller's `answer`; where there is none, tells so and fails.
answered() {
    local code
    answer=$(exchange "$@")
    code=$?
    [ -z "$answer" ] || return 0
    if [ "$code" -eq 124 ]; then
        printf 'hung\tno answer within %s s' "$timeout_s"
    else
        printf 'wrong\tthe connection was closed without an answer'
    fi
    return 1
}

# ApiVersions, version 0: the answer begins with the correlation id and error code 0.
ask_kafka() {
    local answer
    answered "$1" '\x00\x00\x00\x0a\x00\x12\x00\x00\x4d\x4e\x54\x53\xff\xff' 10 || return
    case $answer in
        ????????4d4e54530000) printf 'up\tanswers ApiVersions' ;;
        ????????4d4e5453*) printf 'sick\tApiVersions has error 0x%s' "${answer:16}" ;;
        *) printf 'wrong\tthe answer is not that of Kafka' ;;
    esac
}

ask_zookeeper() {
    local answer
    answered "$1" 'srvr' 64 || return
    case $(unhex "$answer") in
        "Zookeeper version"*) printf 'up\tanswers srvr' ;;
        *"not currently serving"*) printf 'sick\tit has no quorum' ;;
        *) printf 'wrong\tthe answer is not that of ZooKeeper' ;;
    esac
}

# A StartupMessage (protocol 3.0) of a user that need not exist: a server that takes clients asks for a password or says no to this one.
ask_postgres() {
    local answer text
    answered "$1" '\x00\x00\x00\x17\x00\x03\x00\x00user\x00mantis-h\x00\x00' 200 || return
    text=$(unhex "$answer")
    case $text in
        R*) printf 'up\ttakes clients' ;;
        E*C57P0* | E*C53*) printf 'sick\t%s' "$(said "$text")" ;;
        E*C28*) printf 'up\ttakes clients' ;;
        E*) printf 'sick\t%s' "$(said "$text")" ;;
        *) printf 'wrong\tthe answer is not that of PostgreSQL' ;;
    esac
}

# The message of a PostgreSQL error: fields begin with a letter, and those of a message are long enough to be words.
said() { printf '%s' "$1" | tr -c 'A-Za-z0-9 ,.:"()_-' '\n' | sed -n 's/^M\(.\{6,\}\)$/\1/p' | head -n 1; }

ask_redis() {
    local answer
    answered "$1" 'PING\r\n' 64 || return
    case $(unhex "$answer") in
        +PONG*) printf 'up\tanswers PING' ;;
        -NOAUTH* | -DENIED*) printf 'up\tasks for a password' ;;
        -LOADING* | -MASTERDOWN*) printf 'sick\tit is loading its data' ;;
        *) printf 'wrong\tthe answer is not that of Redis' ;;
    esac
}

# Printable text of hexadecimal digits.
unhex() { printf '%b' "$(printf '%s' "$1" | sed 's/../\\x&/g')" | tr -c '[:print:]' ' '; }

ask_http() {
    local service=$1 at=$2 answer code status
    answer=$(curl -sS -i -m "$timeout_s" "http://$host:$at${page[$service]}" 2>&1 | tr -d '\000')
    code=${PIPESTATUS[0]}
    case $code in
        0) ;;
        28) printf 'hung\tno answer within %s s' "$timeout_s" && return ;;
        *) printf 'wrong\tthe answer is no HTTP' && return ;;
    esac
    status=$(printf '%s' "$answer" | sed -n '1s/^HTTP[^ ]* \([0-9]*\).*/\1/p')
    if printf '%s' "$answer" | grep -qE "${holds[$service]}"; then
        case $status in
            2??) printf 'up\tanswers %s' "${page[$service]}" ;;
            *) printf 'sick\t%s answers %s' "${page[$service]}" "$status" ;;
        esac
    else
        case $status in
            2?? | 404) printf 'wrong\t%s is not a page of %s' "${page[$service]}" "$service" ;;
            *) printf 'sick\t%s answers %s' "${page[$service]}" "$status" ;;
        esac
    fi
}

main "$@"
