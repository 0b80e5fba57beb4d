# shellcheck shell=bash
# What the servers of a stack share: where things are, secrets, certificates, and how a server is started, watched and stopped.
# Sourced by scripts/stack, which sets `here` to this folder.

# Programs, shared by all stacks of this user.
cache=${MANTIS_STACK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mantis-stack}
# Data, logs and secrets of this stack.
state=${MANTIS_STACK_DIR:-$cache/stack}
# Added to every port, for a second stack on one machine.
port_offset=${MANTIS_STACK_PORT_OFFSET:-0}
stop_s_max=30
# Of each server: where it listens, how long it may take to serve, and the signal that it stops by if it is not TERM.
declare -A port ready_s_max stop_signal
# What a server's `configure` leaves for `start`.
command=()

say() { printf '%s\n' "$*"; }
warn() { printf 'stack: %s\n' "$*" >&2; }
die() {
    warn "$*"
    exit 1
}

need() {
    local program
    for program in "$@"; do
        command -v "$program" >/dev/null || die "$program is missing: install it first"
    done
}

# need_packages PROGRAM=PACKAGE...: installs Debian packages whose program is absent, and starts none of their services.
need_packages() {
    local pair packages=() policy=/usr/sbin/policy-rc.d
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || packages+=("${pair#*=}")
    done
    [ ${#packages[@]} -gt 0 ] || return 0
    { [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; } || die "install these Debian packages first: ${packages[*]}"
    say "installing ${packages[*]}"
    local made=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        made=1
    fi
    local log=$cache/apt.log failed=
    DEBIAN_FRONTEND=noninteractive apt-get -qq update >"$log" 2>&1 &&
        DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${packages[@]}" >>"$log" 2>&1 || failed=1
    [ -z "$made" ] || rm -f "$policy"
    [ -z "$failed" ] || {
        tail -n 20 "$log" >&2
        die "apt-get failed: $log"
    }
}

# Where a program of a Go module of ours lies once it is built; another version is another file.
go_binary() { printf '%s/bin/%s-%s' "$cache" "$1" "$(cat "$here/$1/go.mod" "$here/$1/go.sum" | sha256sum | cut -c1-12)"; }

# go_tool NAME: builds the tool that the module in the folder NAME pins; go.sum verifies what it is built of.
go_tool() {
    local name=$1 binary log=$cache/$1.log
    binary=$(go_binary "$name")
    [ ! -x "$binary" ] || return 0
    need go
    say "building $name: some minutes"
    mkdir -p "$cache/bin"
    (cd "$here/$name" && CGO_ENABLED=0 go build -mod=readonly -trimpath -ldflags '-s -w' -o "$binary.new" "$(go list -f '{{.ImportPath}}' tool)") \
        >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        die "$name could not be built: $log"
    }
    mv "$binary.new" "$binary"
}

# The file of a secret of this stack, made when it is first asked for.
secret_file() {
    local file=$state/secrets/$1
    if [ ! -s "$file" ]; then
        (
            umask 077
            mkdir -p "$state/secrets"
            openssl rand -hex 24 | tr -d '\n' >"$file.new"
            mv "$file.new" "$file"
        )
    fi
    printf '%s' "$file"
}

secret() { cat "$(secret_file "$1")"; }

# A certificate for loopback and the authority that signed it, for tests: tls/ca.crt, tls/server.crt, tls/server.key.
certificates() {
    local tls=$state/tls
    [ ! -s "$tls/server.crt" ] || return 0
    need openssl
    (
        umask 077
        mkdir -p "$tls"
        cd "$tls"
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj "/CN=MANTIS test authority" \
            -keyout ca.key -out ca.crt -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
        openssl req -newkey rsa:2048 -nodes -subj "/CN=localhost" -keyout server.key -out server.csr
        printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n' >server.ext
        openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -extfile server.ext -out server.new
        mv server.new server.crt
    ) 2>"$state/openssl.log" || die "certificates could not be made: $state/openssl.log"
}

# When the process began, in clock ticks since the machine's start: with the pid it names a process for good.
# A process that has ended and that nobody has asked about yet (Z) is none.
began() { sed -n 's/^.*) //p' "/proc/$1/stat" 2>/dev/null | sed '/^Z/d' | cut -d' ' -f20; }

# The pid of a server of this stack that runs.
pid_of() {
    local pid began_at
    read -r pid began_at 2>/dev/null <"$state/$1/pid" || return 1
    [ "$(began "$pid")" = "$began_at" ] && printf '%s' "$pid"
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Starts `command` as server $1 if it does not run, and waits until it serves.
start() {
    local name=$1 at=${port[$1]} wait_s=${ready_s_max[$1]:-30} dir=$state/$1 begun=$SECONDS pid
    if ! pid=$(pid_of "$name"); then
        ! listens "$at" || die "$name: port $at is taken by another program: stop it, or set MANTIS_STACK_PORT_OFFSET"
        # Not with the lock of scripts/stack, which would be held as long as the server runs.
        setsid nohup "${command[@]}" >>"$dir/log" 2>&1 </dev/null 9>&- &
        pid=$!
        printf '%s %s\n' "$pid" "$(began "$pid")" >"$dir/pid"
        printf '127.0.0.1:%s\n' "$at" >"$dir/address"
    fi
    until "${name}_ready" >/dev/null 2>&1; do
        pid_of "$name" >/dev/null || {
            tail -n 20 "$dir/log" >&2
            die "$name ended as it started: $dir/log"
        }
        [ $((SECONDS - begun)) -lt "$wait_s" ] || die "$name does not serve after $wait_s s: see $dir/log"
        sleep 0.1
    done
    say "$name serves on 127.0.0.1:$at as process $pid, after $((SECONDS - begun)) s"
}

# Stops server $1, and kills it when that takes too long.
stop() {
    local name=$1 signal=${stop_signal[$1]:-TERM} pid begun=$SECONDS
    if pid=$(pid_of "$name"); then
        kill -s "$signal" "$pid"
        while pid_of "$name" >/dev/null; do
            if [ $((SECONDS - begun)) -ge "$stop_s_max" ]; then
                warn "$name does not stop within $stop_s_max s: it is killed"
                kill -s KILL "$pid"
            fi
            sleep 0.1
        done
        say "$name is stopped"
    fi
    rm -f "$state/$name/pid" "$state/$name/address"
}
