"""How to reach Kafka: where it is, and what else its client library is to be told (`--kafka-config`)."""

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException

from evcharge.errors import UsageError
from evcharge.text_files import lines_of

OURS = frozenset(
    {
        "acks",
        "auto.offset.reset",
        "bootstrap.servers",
        "client.id",
        "default.topic.config",
        "delivery.timeout.ms",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.idempotence",
        "enable.partition.eof",
        "group.id",
        "group.instance.id",
        "group.protocol",
        "logger",
        "message.send.max.retries",
        "message.timeout.ms",
        "metadata.broker.list",
        "partitioner",
        "queue.buffering.max.messages",
        "request.required.acks",
        "retries",
        "transactional.id",
    }
)
"""What our promises rest on."""

SHORTEST_SECRET = 4
"""Less would blot out parts of words."""

NAME = re.compile("[a-z0-9._]+")

C = TypeVar("C")

# librdkafka would write each failed attempt to connect to stderr; we say once what is waited for.
_quiet = logging.getLogger("evcharge.librdkafka")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """Shown by its address alone: among the settings there may be a password.

    With a `topic_prefix` the broker's topics have longer names than those that the programs speak of.
    """

    address: str
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)
    topic_prefix: str = ""

    def __str__(self) -> str:
        return self.address

    def client(self, kind: Callable[[dict[str, Any]], C], ours: Mapping[str, Any]) -> C:
        """A client of the library; raises `UsageError` if it does not accept the settings of the file."""
        try:
            return kind({**ours, **self.settings})
        except KafkaException as problem:
            raise UsageError(f"--kafka-config does not work: {self._unquoted(problem)}") from None

    def _unquoted(self, problem: KafkaException) -> str:
        """What the library says, without the values of the file, which it may quote."""
        said = str(problem.args[0].str()).strip()
        for value in sorted(self.settings.values(), key=len, reverse=True):
            if len(value) >= SHORTEST_SECRET:
                said = said.replace(value, "…")
        return said


def client_settings(kafka: KafkaAccess, client_id: str, error_cb: Callable[[KafkaError], None]) -> dict[str, Any]:
    """What all clients of the library have in common."""
    return {
        "bootstrap.servers": kafka.address,
        "client.id": client_id,
        "error_cb": error_cb,
        "logger": _quiet,
        "reconnect.backoff.max.ms": 2000,
        # A connection that died without a word is given up after this, not after librdkafka's 60 s.
        "socket.timeout.ms": 10_000,
        "socket.keepalive.enable": True,
        "topic.metadata.refresh.interval.ms": 10_000,
    }


def read_settings(path: Path) -> dict[str, str]:
    """The settings in a file, a line each, `name=value`; raises `UsageError`, which quotes no value."""
    settings: dict[str, str] = {}
    for number, line in enumerate(lines_of(path, "the Kafka settings"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        where = f"{path}, line {number}"
        if not equals or not NAME.fullmatch(name):
            raise UsageError(f"{where}: expected name=value, such as security.protocol=SASL_SSL")
        if name in OURS or name.endswith("_cb"):
            raise UsageError(f"{where}: {name} is for evcharge itself to set; take the line out")
        settings[name] = value
    return settings
