"""The embedded broker of `evcharge demo`: librdkafka's own, in memory.

It drops old messages under load and does not know the admin calls, so nothing but the demo uses it; the topics
are made by asking for them.
"""

import logging
from collections.abc import Iterable

from confluent_kafka import Producer

_quiet = logging.getLogger("evcharge.trial_broker")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False


class TrialBroker:
    """Lives as long as this object; `bootstrap` is its address."""

    def __init__(self, topics: Iterable[str]) -> None:
        self._owner = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "none", "logger": _quiet})
        brokers = self._owner.list_topics(timeout=10).brokers
        self.bootstrap = ",".join(f"{broker.host}:{broker.port}" for broker in brokers.values())
        for topic in topics:
            self._owner.list_topics(topic, timeout=10)
