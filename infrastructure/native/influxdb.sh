# shellcheck shell=bash
# InfluxDB OSS 2.7 without its web pages, built from the module proxy: raw readings and frames.

port[influxdb]=$((8086 + port_offset))
influxdb_version=v2.7.12
influxdb_module=github.com/influxdata/influxdb/v2
# Of the module, from the checksum database; what it needs is verified by its own go.sum.
influxdb_sum=h1:m25dUSO7h6nm3zFC4v/aCNeFFmnN/mlN/uPo1T63bmk=
ready_s_max[influxdb]=60

influxdb_install() {
    [ ! -x "$cache/bin/influxd-$influxdb_version" ] || return 0
    need go cargo gcc pkg-config
    say "building influxd $influxdb_version: about 10 minutes on 2 cores"
    (
        work=$(mktemp -d "$cache/influxdb.XXXXXX")
        trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
        cd "$work"
        # Its go.mod has replace lines, which count only in the main module: so its tree becomes that.
        go mod download -json "$influxdb_module@$influxdb_version" >module.json
        grep -q "\"Sum\": \"$influxdb_sum\"" module.json || die "influxdb $influxdb_version is not what was pinned: $(grep Sum module.json)"
        cp -r "$(sed -n 's/^[[:space:]]*"Dir": "\(.*\)",\{0,1\}$/\1/p' module.json)" tree
        chmod -R u+w tree
        cd tree
        # cgo asks pkg-config for flux; influxdata's own answers by building libflux with cargo.
        go build -o "$work/pkg-config" github.com/influxdata/pkg-config
        # libflux names an old toolchain and denies warnings, of which a newer compiler has more.
        if command -v rustup >/dev/null; then
            RUSTUP_TOOLCHAIN=${RUSTUP_TOOLCHAIN:-$(cd / && rustup show active-toolchain | awk 'NR == 1 { print $1 }')}
            export RUSTUP_TOOLCHAIN
        fi
        printf '#!/bin/sh\nexec "$@" --cap-lints warn\n' >"$work/rustc-wrapper"
        chmod +x "$work/rustc-wrapper"
        PKG_CONFIG=$work/pkg-config RUSTC_WORKSPACE_WRAPPER=$work/rustc-wrapper go build -trimpath \
            -tags sqlite_foreign_keys,sqlite_json -ldflags "-s -w -X main.version=$influxdb_version" -o "$work/influxd" ./cmd/influxd
        mkdir -p "$cache/bin"
        mv "$work/influxd" "$cache/bin/influxd-$influxdb_version"
    ) >"$cache/influxdb.log" 2>&1 || {
        tail -n 20 "$cache/influxdb.log" >&2
        die "influxd could not be built: $cache/influxdb.log"
    }
}

influxdb_configure() {
    local dir=$state/influxdb
    mkdir -p "$dir"
    command=(
        "$cache/bin/influxd-$influxdb_version" --http-bind-address "127.0.0.1:${port[influxdb]}" --reporting-disabled
        --bolt-path "$dir/influxd.bolt" --sqlite-path "$dir/influxd.sqlite" --engine-path "$dir/engine"
        # Acknowledged means on disk: the log is synced for each batch of writes.
        --storage-wal-fsync-delay 0s
    )
}

influxdb_ready() { [ "$(curl -s -m 2 -o /dev/null -w '%{http_code}' "http://127.0.0.1:${port[influxdb]}/health")" = 200 ]; }

# The first user, once: its token may do everything, and no worker gets it.
influxdb_provision() {
    local setup
    setup=$(
        printf '{"username":"admin","password":"%s","token":"%s","org":"mantis","bucket":"admin"}' "$(secret influxdb-admin-password)" \
            "$(secret influxdb-admin-token)" |
            curl -s -m 10 -o /dev/null -w '%{http_code}' -H 'Content-Type: application/json' -d @- \
                "http://127.0.0.1:${port[influxdb]}/api/v2/setup"
    )
    # 422: it has been done.
    [ "$setup" = 201 ] || [ "$setup" = 422 ] || die "influxdb: the first user could not be made (HTTP $setup)"
}
