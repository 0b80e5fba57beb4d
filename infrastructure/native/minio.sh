# shellcheck shell=bash
# MinIO and its client mc, built from the module proxy: the archive's objects.

port[minio]=$((9000 + port_offset))
ready_s_max[minio]=60

minio_install() {
    go_tool minio
    go_tool mc
}

minio_configure() {
    local dir=$state/minio
    mkdir -p "$dir/data"
    command=(
        env MINIO_ROOT_USER=admin "MINIO_ROOT_PASSWORD_FILE=$(secret_file minio)" MINIO_UPDATE=off MINIO_BROWSER=off
        "$(go_binary minio)" server --quiet --address "127.0.0.1:${port[minio]}" "$dir/data"
    )
}

minio_ready() { [ "$(curl -s -m 2 -o /dev/null -w '%{http_code}' "http://127.0.0.1:${port[minio]}/minio/health/ready")" = 200 ]; }
