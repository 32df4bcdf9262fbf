#!/usr/bin/env bash
# What one would guess: a topic with `min.insync.replicas=2` and one replica can never have two copies in sync, so a
#   producer with acks=all is refused (NOT_ENOUGH_REPLICAS), as in Apache Kafka 3 and before.
# What happens: the broker takes the write, and reports it as done. With "eligible leader replicas" (KIP-966), which a
#   cluster that is formatted anew has switched on, the least number of copies is that of the replicas if there are fewer.
#   The topic's configuration still says 2.
# Seen with: Apache Kafka 4.3.1 (KRaft), confluent-kafka 2.16.1; 2026-11-28.
# What follows: `min.insync.replicas` alone promises no second copy. Look at the replication factor of the topics, too;
#   and a test of "too few copies in sync" needs two brokers, of which one is stopped.
# Needs: bash, python3 with venv, Java 17 or newer, Maven.
set -euo pipefail
folder=$(mktemp -d)
trap '[ -z "${broker:-}" ] || kill "$broker" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"

cat > pom.xml <<'XML'
<project><modelVersion>4.0.0</modelVersion><groupId>finding</groupId><artifactId>finding</artifactId><version>1</version>
<packaging>pom</packaging><dependencies><dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId>
<version>4.3.1</version></dependency></dependencies></project>
XML
mvn -q -B dependency:copy-dependencies -DoutputDirectory=libs > mvn.log 2>&1 || { cat mvn.log; exit 2; }
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check confluent-kafka==2.16.1

port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
serve=$(port) control=$(port)
cat > server.properties <<END
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$control
listeners=PLAINTEXT://127.0.0.1:$serve,CONTROLLER://127.0.0.1:$control
advertised.listeners=PLAINTEXT://127.0.0.1:$serve
controller.listener.names=CONTROLLER
offsets.topic.replication.factor=1
log.dirs=$folder/data
END
java -cp 'libs/*' kafka.tools.StorageTool format --cluster-id=MkU3OEVBNTcwNTJENDM2Qg --config=server.properties > format.log 2>&1
java -cp 'libs/*' kafka.Kafka server.properties > broker.log 2>&1 &
broker=$!

cat > look.py <<'PY'
import sys
import time

import confluent_kafka
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

servers = {"bootstrap.servers": f"127.0.0.1:{sys.argv[1]}", "log_level": 0}
admin = AdminClient(servers)
deadline_s = time.monotonic() + 60
while True:
    try:
        admin.list_topics(timeout=1)
        break
    except KafkaException:
        if time.monotonic() > deadline_s:
            sys.exit("the broker did not start; see broker.log")
topic = NewTopic("one-copy", num_partitions=1, replication_factor=1, config={"min.insync.replicas": "2"})
admin.create_topics([topic])["one-copy"].result()
resource = ConfigResource(ResourceType.TOPIC, "one-copy")
least = admin.describe_configs([resource])[resource].result()["min.insync.replicas"].value

reports = []
producer = Producer(servers | {"acks": "all", "message.timeout.ms": 10000})
producer.produce("one-copy", b"value", on_delivery=lambda error, record: reports.append((error, record.offset())))
producer.flush(20)
print(f"confluent-kafka {confluent_kafka.version()}, librdkafka {confluent_kafka.libversion()[0]}, Kafka 4.3.1")
print(f"replicas: 1, min.insync.replicas: {least}, report of a write with acks=all (error, offset): {reports}")
sys.exit(0 if least == "2" and reports == [(None, 0)] else "this is not what was seen before")
PY
venv/bin/python look.py "$serve"
