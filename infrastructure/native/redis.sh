# shellcheck shell=bash
# Redis, of Debian: the cache of latest values. Append-only file, synced each second, and eviction of what has a time to live.

port[redis]=$((6379 + port_offset))

redis_install() { need_packages redis-server=redis-server redis-cli=redis-tools; }

redis_configure() {
    local dir=$state/redis
    mkdir -p "$dir"
    (
        umask 077
        cat >"$dir/redis.conf" <<-CONF
			bind 127.0.0.1
			port ${port[redis]}
			dir $dir
			appendonly yes
			appendfsync everysec
			save 900 1
			maxmemory 512mb
			maxmemory-policy volatile-lru
			requirepass $(secret redis)
		CONF
    )
    command=(redis-server "$dir/redis.conf")
}

redis_ready() { [ "$(REDISCLI_AUTH=$(secret redis) redis-cli -h 127.0.0.1 -p "${port[redis]}" ping)" = PONG ]; }
