#!/usr/bin/env bash
# Provides an Apache Kafka for tests.
#
#   kafka.sh start DIR    prints `export KAFKA_BROKERS=…` and keeps all it makes in DIR, or prints SKIPPED and why;
#                         one that was killed goes on where it was, with what it had
#   kafka.sh stop DIR     stops what start started; DIR can then be removed
#
# The first of these that is there: the cluster that KAFKA_BROKERS names; Java 17 with Maven, which brings
# Kafka into $HOME/.cache/millrace/kafka; Docker. One broker in KRaft mode, on free ports of the loopback.
set -euo pipefail

version=4.3.1
# The client library asks for this much; a test cluster is small.
heap=512m
# A busy machine needs a while to start a Java process; a broken one never does.
patience_s=90

cache="$HOME/.cache/millrace/kafka/$version"

skip() {
    echo "SKIPPED Apache Kafka: $1"
    exit 0
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])' 2>/dev/null && return 0
    # Without Python: a port that nobody answers on.
    local port
    for _ in $(seq 50); do
        port=$((20000 + RANDOM % 20000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return 0; }
    done
    return 1
}

java_is_new_enough() {
    command -v java >/dev/null || return 1
    local major
    major=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
    [ "${major:-0}" -ge 17 ]
}

# Kafka and all it depends on as jars, once.
fetch() {
    [ -e "$cache/.complete" ] && return 0
    local work
    work=$(mktemp -d)
    cat > "$work/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>millrace</groupId>
  <artifactId>kafka-for-tests</artifactId>
  <version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$version</version></dependency>
  </dependencies>
</project>
POM
    rm -rf "$cache"
    mkdir -p "$cache/jars"
    if ! mvn --batch-mode --quiet -f "$work/pom.xml" dependency:copy-dependencies \
        -DoutputDirectory="$cache/jars" -DincludeScope=runtime >"$work/mvn.log" 2>&1; then
        tail -n 20 "$work/mvn.log" >&2
        rm -rf "$work"
        return 1
    fi
    rm -rf "$work"
    touch "$cache/.complete"
}

# Waits until the broker listens, or its process is gone.
await() {
    local port=$1 pid=$2 deadline=$((SECONDS + patience_s))
    while [ "$SECONDS" -lt "$deadline" ]; do
        if [ -n "$pid" ] && ! kill -0 "$pid" 2>/dev/null; then return 1; fi
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then return 0; fi
        sleep 0.2
    done
    return 1
}

start_with_java() {
    local dir=$1 port controller
    port=$(free_port)
    controller=$(free_port)
    cat > "$dir/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:$controller
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$dir/data
# One node: the internal topics cannot have the usual three replicas.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# A group of a test does not wait three seconds for members that will not come.
group.initial.rebalance.delay.ms=0
# A topic that nobody provisioned is a bug that a test should see.
auto.create.topics.enable=false
PROPERTIES
    cat > "$dir/log4j2.properties" <<LOG
status = error
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c{1} %m%n
LOG
    local id
    id=$(run_java "$dir" kafka.tools.StorageTool random-uuid 2>>"$dir/kafka.log" | tail -n 1)
    run_java "$dir" kafka.tools.StorageTool format --standalone --cluster-id "$id" --config "$dir/server.properties" \
        >>"$dir/kafka.log" 2>&1 || { tail -n 20 "$dir/kafka.log" >&2; return 1; }
    run_broker "$dir"
}

run_java() {
    local dir=$1
    shift
    java "-Xmx$heap" "-Dlog4j2.configurationFile=$dir/log4j2.properties" -cp "$cache/jars/*" "$@"
}

# Runs the broker that DIR holds.
run_broker() {
    local dir=$1 port
    port=$(sed -n 's|^listeners=PLAINTEXT://127.0.0.1:\([0-9]*\),.*|\1|p' "$dir/server.properties")
    nohup java "-Xmx$heap" "-Dlog4j2.configurationFile=$dir/log4j2.properties" -cp "$cache/jars/*" \
        kafka.Kafka "$dir/server.properties" >>"$dir/kafka.log" 2>&1 </dev/null &
    echo $! > "$dir/pid"
    if ! await "$port" "$(cat "$dir/pid")"; then
        tail -n 20 "$dir/kafka.log" >&2
        stop "$dir"
        return 1
    fi
    echo "export KAFKA_BROKERS=127.0.0.1:$port"
}

start_with_docker() {
    local dir=$1 port
    port=$(free_port)
    docker run --detach --rm --publish "127.0.0.1:$port:$port" \
        --env KAFKA_HEAP_OPTS="-Xmx$heap" \
        --env KAFKA_NODE_ID=1 \
        --env KAFKA_PROCESS_ROLES=broker,controller \
        --env KAFKA_LISTENERS="PLAINTEXT://:$port,CONTROLLER://:9093" \
        --env KAFKA_ADVERTISED_LISTENERS="PLAINTEXT://127.0.0.1:$port" \
        --env KAFKA_CONTROLLER_LISTENER_NAMES=CONTROLLER \
        --env KAFKA_LISTENER_SECURITY_PROTOCOL_MAP=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT \
        --env KAFKA_CONTROLLER_QUORUM_VOTERS=1@localhost:9093 \
        --env KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR=1 \
        --env KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS=3 \
        --env KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS=0 \
        --env KAFKA_AUTO_CREATE_TOPICS_ENABLE=false \
        "apache/kafka:$version" > "$dir/container" 2>"$dir/kafka.log" || return 1
    if ! await "$port" ""; then
        stop "$dir"
        return 1
    fi
    echo "export KAFKA_BROKERS=127.0.0.1:$port"
}

start() {
    local dir=$1 reason="neither Java 17 with Maven nor Docker is installed"
    mkdir -p "$dir"
    dir=$(cd "$dir" && pwd)
    if [ -n "${KAFKA_BROKERS:-}" ]; then
        echo "export KAFKA_BROKERS=$KAFKA_BROKERS"
        return 0
    fi
    if [ -e "$dir/server.properties" ]; then
        run_broker "$dir"
        return
    fi
    if java_is_new_enough && command -v mvn >/dev/null; then
        if ! fetch; then
            reason="Maven could not bring org.apache.kafka:kafka_2.13:$version"
        elif start_with_java "$dir"; then
            return 0
        else
            reason="it did not start with Java; $dir/kafka.log says why"
        fi
    fi
    if command -v docker >/dev/null && docker info >/dev/null 2>&1; then
        start_with_docker "$dir" && return 0
        reason="the image apache/kafka:$version did not start"
    fi
    skip "$reason"
}

stop() {
    local dir=$1
    if [ -e "$dir/pid" ]; then
        local pid
        pid=$(cat "$dir/pid")
        kill "$pid" 2>/dev/null || true
        # A clean stop takes a second or two.
        for _ in $(seq 100); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -9 "$pid" 2>/dev/null || true
        rm -f "$dir/pid"
    fi
    if [ -e "$dir/container" ]; then
        docker stop "$(cat "$dir/container")" >/dev/null 2>&1 || true
        rm -f "$dir/container"
    fi
}

case "${1:-}" in
    start) start "${2:?a folder for its data}" ;;
    stop) stop "${2:?the folder that start was given}" ;;
    *)
        echo "usage: kafka.sh start DIR | kafka.sh stop DIR" >&2
        exit 2
        ;;
esac
