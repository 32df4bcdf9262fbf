"""How far Central has come with the readings in Kafka: what it has committed."""

from confluent_kafka import Consumer, TopicPartition

from evcharge.protocol.topics import Topic

CENTRAL = "evcharge-central"
TIMEOUT_S = 5.0


class Handled:
    def __init__(self, kafka: str) -> None:
        self._consumer = Consumer({"bootstrap.servers": kafka, "group.id": CENTRAL, "enable.auto.commit": False})
        topic = Topic.SESSION_DATA.value
        partitions = self._consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions
        self._partitions = [TopicPartition(topic, partition) for partition in partitions]

    def readings(self) -> int:
        """So many have been handled, and all that follows from them is in Kafka."""
        committed = self._consumer.committed(self._partitions, timeout=TIMEOUT_S)
        return sum(max(0, at.offset) for at in committed)

    def close(self) -> None:
        self._consumer.close()
