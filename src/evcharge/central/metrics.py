"""What Central counts, for Prometheus. The worker counts in plain dicts; names come in when somebody asks."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any

from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from evcharge.central.receipts import Backlog
from evcharge.domain.decisions import BILLED_WH, Frame, FromKafka, FromMonitor, Record, ended_as
from evcharge.domain.session import SessionStatus
from evcharge.domain.set_aside import Kind
from evcharge.domain.status import Status
from evcharge.errors import WIRE_ERRORS
from evcharge.protocol.messages import MESSAGE_TYPES, Message
from evcharge.protocol.operators import ChargePointNow

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
TYPE_NAMES: dict[type[Message], str] = {cls: name for name, cls in MESSAGE_TYPES.items()}

ENDS = (SessionStatus.COMPLETED, SessionStatus.FAILED, SessionStatus.INTERRUPTED)

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second line for each figure, which nobody asked for


class Metrics:
    def __init__(self) -> None:
        self.received: Counter[tuple[str, type[Message]]] = Counter()
        self.sent: Counter[tuple[str, type[Message]]] = Counter()
        self.counts: Counter[str] = Counter()
        """Errors by their code, and whatever else has a name."""
        self.http_answers: Counter[int] = Counter()
        """By their status code."""
        self._registry = CollectorRegistry()
        self.decide_s = self._timing("decide", "deciding a batch")
        self.commit_s = self._timing("commit", "writing a batch to the database")

    def _timing(self, name: str, what: str) -> Histogram:
        return Histogram(f"evcharge_{name}_seconds", f"Time of {what}.", buckets=SECONDS, registry=self._registry)

    def page(self, now: "Snapshot") -> bytes:
        """All metrics in Prometheus' text format."""
        registry = CollectorRegistry()
        registry.register(_Collected(list(self._of(now))))
        return generate_latest(self._registry) + generate_latest(registry)

    def _of(self, now: "Snapshot") -> Iterator[Metric]:
        sessions = [cp.session for cp in now.charge_points if cp.session is not None]
        by_status = Counter(cp.status for cp in now.charge_points)
        yield _gauge("charge_points", "Charge points.", "status", {s.value: by_status[s] for s in Status})
        out = sum(cp.out_of_service for cp in now.charge_points)
        yield GaugeMetricFamily("evcharge_charge_points_out_of_service", "Charge points out of service.", out)
        yield GaugeMetricFamily("evcharge_sessions_open", "Sessions that are open.", len(sessions))
        power_w = sum(session.power_w for session in sessions)
        yield GaugeMetricFamily("evcharge_power_watts", "Power of all charges together.", power_w)
        yield GaugeMetricFamily("evcharge_connections", "Connections of Monitors.", now.connections)
        yield GaugeMetricFamily("evcharge_inbox_waiting", "Messages and batches not decided yet.", now.waiting)
        by_topic: Counter[str] = Counter()
        for (topic, _), records in now.lag.items():
            by_topic[topic] += records
        yield _gauge("kafka_lag_records", "Records not read yet.", "topic", by_topic)
        yield GaugeMetricFamily("evcharge_receipts_waiting", "Receipts that Kafka has not.", now.receipts.waiting)
        yield GaugeMetricFamily(
            "evcharge_receipts_wait_seconds", "How long the first of them has waited.", now.receipts.wait_s(now.at)
        )
        yield GaugeMetricFamily("evcharge_kafka_refused_records", "Answers that Kafka refuses.", now.kept)
        yield _gauge("up", "Whether it works.", "part", {part: int(works) for part, works in now.up.items()})
        if now.to_settle is not None:
            kinds = {kind.value: now.to_settle.get(kind.value, (0, 0.0)) for kind in Kind}
            counts = {kind: count for kind, (count, _) in kinds.items()}
            yield _gauge("to_settle", "What waits for a person to settle it.", "kind", counts)
            oldest_s = max(age_s for _, age_s in kinds.values())
            text = "For how long the oldest of it has waited; 0 if there is none."
            yield GaugeMetricFamily("evcharge_to_settle_oldest_seconds", text, oldest_s)
        yield from self._counted()

    def _counted(self) -> Iterator[Metric]:
        counts = dict(self.counts)
        ended = {(status.value,): counts.pop(ended_as(status), 0) for status in ENDS}
        yield _counter("sessions_ended", "Sessions that have ended.", ("status",), ended)
        energy_wh = counts.pop(BILLED_WH, 0)
        yield CounterMetricFamily("evcharge_energy_billed_watt_hours", "Energy on receipts.", energy_wh)
        errors = {(code,): counts.pop(code) for code in WIRE_ERRORS.keys() & counts.keys()}
        yield _counter("errors", "Messages and requests refused.", ("code",), errors)
        others = {(name,): count for name, count in counts.items()}
        yield _counter("events", "What else was counted.", ("event",), others)
        answers = {(str(status),): count for status, count in dict(self.http_answers).items()}
        yield _counter("http_answers", "Answers to operators over HTTP.", ("status",), answers)
        for name, counted in (("received", self.received), ("sent", self.sent)):
            values = {(via, TYPE_NAMES[cls]): count for (via, cls), count in dict(counted).items()}
            yield _counter(f"messages_{name}", f"Messages {name}.", ("via", "type"), values)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is not counted, but is so now. `lag`: (topic, partition) -> records; `up`: part -> whether it works.

    `kept`: answers that Kafka has refused, and will be offered again. `to_settle`: kind -> how many wait, and for
    how many seconds the oldest; None if the database cannot tell.
    """

    at: datetime
    charge_points: list[ChargePointNow]
    connections: int
    waiting: int
    lag: dict[tuple[str, int], int]
    up: dict[str, bool]
    receipts: Backlog
    kept: int
    to_settle: dict[str, tuple[int, float]] | None


def count(
    counter: Counter[tuple[str, type[Message]]],
    via: str,
    carriers: Iterable[FromMonitor | FromKafka | Frame | Record],
) -> None:
    """Count messages that have come, or go, `via` tcp or kafka, by their types."""
    for kind, number in Counter(map(type, map(attrgetter("message"), carriers))).items():
        counter[via, kind] += number


class _Collected(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics


def _gauge(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(f"evcharge_{name}", text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def _counter(name: str, text: str, labels: tuple[str, ...], values: Mapping[Any, int]) -> Metric:
    family = CounterMetricFamily(f"evcharge_{name}", text, labels=labels)
    for value, number in values.items():
        family.add_metric(value, number)
    return family
