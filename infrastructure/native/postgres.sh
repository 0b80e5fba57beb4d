# shellcheck shell=bash
# PostgreSQL 17 twice, of Debian trixie in a folder of its own: `postgres` has master data, `timescaledb` features and slow readings.
# Debian's TimescaleDB is the Apache build.

port[postgres]=$((5432 + port_offset))
port[timescaledb]=$((5433 + port_offset))
trixie=$cache/trixie
postgres_bin=/usr/lib/postgresql/17/bin
stop_signal[postgres]=INT # fast: it does not wait for clients
stop_signal[timescaledb]=INT

timescaledb_install() {
    [ ! -e "$trixie/.postgresql-17" ] || return 0
    [ "$(id -u)" -eq 0 ] || die "PostgreSQL needs root here, for a chroot"
    need_packages debootstrap=debootstrap
    local mirror log=$cache/trixie.log
    # shellcheck disable=SC2016 # apt fills it in
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
    [ -n "$mirror" ] || die "apt names no Debian mirror: run apt-get update"
    say "installing PostgreSQL 17 with TimescaleDB: about 2 minutes"
    {
        [ -e "$trixie/.debootstrapped" ] || {
            rm -rf "$trixie"
            debootstrap --variant=minbase trixie "$trixie" "$mirror" && touch "$trixie/.debootstrapped"
        } &&
            cp -L /etc/resolv.conf "$trixie/etc/resolv.conf" &&
            printf '#!/bin/sh\nexit 101\n' >"$trixie/usr/sbin/policy-rc.d" && chmod 755 "$trixie/usr/sbin/policy-rc.d" &&
            mkdir -p "$trixie/etc/postgresql-common" &&
            echo 'create_main_cluster = false' >"$trixie/etc/postgresql-common/createcluster.conf" &&
            echo "deb $mirror trixie main" >"$trixie/etc/apt/sources.list" &&
            chroot "$trixie" apt-get -qq update &&
            chroot "$trixie" env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 apt-get -qq install -y --no-install-recommends \
                postgresql-17 postgresql-17-timescaledb
    } >"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        die "PostgreSQL could not be installed: $log"
    }
    touch "$trixie/.postgresql-17"
}
postgres_install() { timescaledb_install; }

# Its files lie inside the chroot, where the server sees them.
postgres_data() { printf '/srv/mantis/%s/%s' "$(printf '%s' "$state" | cksum | cut -d' ' -f1)" "$1"; }

as_postgres() { chroot --userspec=postgres:postgres "$trixie" env -i HOME=/tmp LC_ALL=C.UTF-8 "$@"; }

# postgres_cluster NAME PORT SETTING...
postgres_cluster() {
    local name=$1 port=$2 data setting
    shift 2
    data=$(postgres_data "$name")
    mkdir -p "$state/$name" "$trixie/dev/shm"
    chmod 1777 "$trixie/dev/shm" "$trixie/tmp"
    if [ ! -f "$trixie$data/PG_VERSION" ]; then
        certificates
        mkdir -p "$trixie$data"
        install -m 600 "$(secret_file "$name")" "$trixie$data.password"
        chroot "$trixie" chown postgres:postgres "$data" "$data.password"
        as_postgres "$postgres_bin/initdb" -D "$data" -U postgres -E UTF8 --locale=C.UTF-8 --auth=scram-sha-256 \
            --pwfile="$data.password" >>"$state/$name/log" 2>&1 || die "$name could not be set up: $state/$name/log"
        rm -f "$trixie$data.password"
        install -m 600 "$state/tls/server.key" "$state/tls/server.crt" "$trixie$data/"
        chroot "$trixie" chown postgres:postgres "$data/server.key" "$data/server.crt"
    fi
    {
        cat <<-CONF
			port = $port
			listen_addresses = '127.0.0.1'
			unix_socket_directories = ''
			ssl = on
			shared_buffers = 128MB
			timezone = 'UTC'
			log_timezone = 'UTC'
		CONF
        for setting in "$@"; do printf '%s\n' "$setting"; done
    } >"$trixie$data/stack.conf"
    grep -q "^include 'stack.conf'" "$trixie$data/postgresql.conf" || echo "include 'stack.conf'" >>"$trixie$data/postgresql.conf"
    command=(
        chroot --userspec=postgres:postgres "$trixie" env -i HOME=/tmp LC_ALL=C.UTF-8 "$postgres_bin/postgres" -D "$data"
    )
}

# postgres_ask NAME DATABASE: asks the statements of standard input as the server's administrator.
postgres_ask() {
    local name=$1 database=$2
    # In the environment, because everyone sees arguments.
    PGPASSWORD=$(secret "$name") chroot --userspec=postgres:postgres "$trixie" "$postgres_bin/psql" -qXAt -v ON_ERROR_STOP=1 -h 127.0.0.1 -p "${port[$name]}" -U postgres -d "$database" >>"$state/$name/log" 2>&1 ||
        die "$name could not be provisioned: $state/$name/log"
}

# postgres_users NAME: the database `mantis`, its owner, who migrates, and two who belong to the groups that migrations give rights to.
postgres_users() {
    local name=$1
    postgres_ask "$name" postgres <<-SQL
		SELECT format('CREATE ROLE %I', role) FROM unnest(ARRAY['mantis_owner', 'mantis_writer', 'mantis_reader', 'mantis_worker', 'mantis_viewer'])
		    AS wanted (role) WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) \gexec
		ALTER ROLE mantis_owner LOGIN PASSWORD '$(secret "$name-owner")';
		ALTER ROLE mantis_worker LOGIN PASSWORD '$(secret "$name-worker")';
		ALTER ROLE mantis_viewer LOGIN PASSWORD '$(secret "$name-viewer")';
		GRANT mantis_writer TO mantis_worker;
		GRANT mantis_reader TO mantis_viewer;
		SELECT 'CREATE DATABASE mantis OWNER mantis_owner' WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'mantis') \gexec
		REVOKE TEMPORARY ON DATABASE mantis FROM PUBLIC;
	SQL
}

postgres_provision() { postgres_users postgres; }
timescaledb_provision() {
    postgres_users timescaledb
    postgres_ask timescaledb mantis <<<'CREATE EXTENSION IF NOT EXISTS timescaledb;'
}

# The pages of the server are its own: a wipe takes them too.
postgres_wipe() { rm -rf "${trixie:?}$(postgres_data postgres)"; }
timescaledb_wipe() { rm -rf "${trixie:?}$(postgres_data timescaledb)"; }

postgres_configure() { postgres_cluster postgres "${port[postgres]}"; }
timescaledb_configure() {
    postgres_cluster timescaledb "${port[timescaledb]}" "shared_preload_libraries = 'timescaledb'" 'timescaledb.telemetry_level = off' \
        'max_worker_processes = 16'
}

# As soon as it takes clients.
postgres_ready() { as_postgres "$postgres_bin/pg_isready" -q -h 127.0.0.1 -p "${port[postgres]}"; }
timescaledb_ready() { as_postgres "$postgres_bin/pg_isready" -q -h 127.0.0.1 -p "${port[timescaledb]}"; }
