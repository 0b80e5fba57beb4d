# shellcheck shell=bash
# Apache Kafka (KRaft, one node) from the jars of Maven Central: PLAINTEXT for this machine, SASL_SSL as a plant has it.

port[kafka]=$((9092 + port_offset))
kafka_tls_port=$((9093 + port_offset))
kafka_controller_port=$((9095 + port_offset))
kafka_version=4.3.1
kafka_home=$cache/kafka-$kafka_version
ready_s_max[kafka]=90

kafka_install() {
    [ ! -d "$kafka_home" ] || return 0
    need java mvn
    say "fetching Kafka $kafka_version from Maven Central"
    local new=$kafka_home.new
    rm -rf "$new"
    mvn -B -q -ntp -f "$here/kafka/pom.xml" -DoutputDirectory="$new/libs" dependency:copy-dependencies >"$cache/kafka.log" 2>&1 || {
        tail -n 20 "$cache/kafka.log" >&2
        die "Kafka could not be fetched: $cache/kafka.log"
    }
    (cd "$new/libs" && sha256sum --quiet --strict -c "$here/kafka/sha256") || die "Kafka's jars are not those that were pinned"
    mv "$new" "$kafka_home"
}

# kafka_java CLASS ARGS...
kafka_java() {
    java "-Xmx${kafka_heap:-256m}" -Dlog4j2.configurationFile="$here/kafka/log4j2.properties" -cp "$kafka_home/libs/*" "$@"
}

kafka_configure() {
    local dir=$state/kafka
    certificates
    (
        umask 077
        mkdir -p "$dir"
        cat "$state/tls/server.key" "$state/tls/server.crt" "$state/tls/ca.crt" >"$dir/server.pem"
        cat >"$dir/server.properties" <<-CONF
			process.roles=broker,controller
			node.id=1
			controller.quorum.bootstrap.servers=127.0.0.1:$kafka_controller_port
			controller.listener.names=CONTROLLER
			listeners=PLAINTEXT://127.0.0.1:${port[kafka]},SASL_SSL://127.0.0.1:$kafka_tls_port,CONTROLLER://127.0.0.1:$kafka_controller_port
			advertised.listeners=PLAINTEXT://127.0.0.1:${port[kafka]},SASL_SSL://127.0.0.1:$kafka_tls_port
			listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
			inter.broker.listener.name=PLAINTEXT
			sasl.enabled.mechanisms=SCRAM-SHA-512
			listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
			ssl.keystore.type=PEM
			ssl.keystore.location=$dir/server.pem
			ssl.truststore.type=PEM
			ssl.truststore.location=$state/tls/ca.crt
			log.dirs=$dir/data
			auto.create.topics.enable=false
			offsets.topic.num.partitions=4
			offsets.topic.replication.factor=1
			transaction.state.log.replication.factor=1
			transaction.state.log.min.isr=1
			share.coordinator.state.topic.replication.factor=1
			share.coordinator.state.topic.min.isr=1
			group.initial.rebalance.delay.ms=0
		CONF
    )
    if [ ! -f "$dir/data/meta.properties" ]; then
        local id
        # What it logs goes to standard output too.
        id=$(kafka_java kafka.tools.StorageTool random-uuid | tail -n 1)
        kafka_java kafka.tools.StorageTool format --standalone -t "$id" -c "$dir/server.properties" \
            --add-scram "SCRAM-SHA-512=[name=mantis,password=$(secret kafka)]" >>"$dir/log" 2>&1 ||
            die "Kafka's folder could not be formatted: $dir/log"
    fi
    command=(
        java -Xms256m -Xmx512m -Dlog4j2.configurationFile="$here/kafka/log4j2.properties" -cp "$kafka_home/libs/*" kafka.Kafka
        "$dir/server.properties"
    )
}

# The port opens when the broker may serve.
kafka_ready() { listens "${port[kafka]}"; }
