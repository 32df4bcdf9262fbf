"""How it stands with the broker, as one client of the library sees it: whether it is there, lets us in, takes what
we send, and has the same time. Each change is said once."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from itertools import count

from confluent_kafka import KafkaError
from structlog.typing import FilteringBoundLogger

from evcharge.throttle import Throttle
from evcharge.transport.kafka_settings import KafkaAccess

SHUT_OUT = (KafkaError._AUTHENTICATION, KafkaError._SSL)
WAITS_S = 10.0
"""A broker that takes records has reported by then, also one that is elected anew meanwhile."""
CLOCKS_APART_S = 120.0
CLOCK_REFUSED = (
    "Kafka refuses what is dated by this machine's clock, which is an hour or more off the broker's clock;"
    " set it right (NTP), or let Kafka stamp the topic (message.timestamp.type=LogAppendTime)"
)


class Standing(StrEnum):
    """What is wrong between the broker and us; the worst comes first."""

    UNREACHABLE = "unreachable"
    CLOCK_DIFFERS = "clock_differs"
    REFUSES_RECORDS = "refuses_records"
    RECORDS_WAIT = "records_wait"
    GROUP_SHARED = "group_shared"
    OK = "ok"


@dataclass(frozen=True, slots=True)
class Trouble:
    """A `Standing` that is not ok, and a sentence for a person."""

    standing: Standing
    reason: str


class BrokerWatch:
    """Says once that the broker is away, or does not let us in, and once that it is back."""

    def __init__(self, kafka: KafkaAccess, log: FilteringBoundLogger, on_fatal: Callable[[str], None]) -> None:
        self._kafka = kafka
        self._log = log
        self._on_fatal = on_fatal
        self.away = False
        self._shut_out = False

    def failed(self, error: KafkaError) -> None:
        if error.fatal():
            self.fatal(error)
        elif error.code() in SHUT_OUT:
            if not self._shut_out:
                self._log.error("kafka_refuses_us", address=self._kafka.address, cause=shut_out_by(error))
            self._shut_out = self.away = True
        elif error.code() == KafkaError._ALL_BROKERS_DOWN and not self.away:
            self.away = True
            self._log.warning("waiting_for_kafka", address=self._kafka.address, cause=error.str())

    def fatal(self, error: KafkaError) -> None:
        """The library gives up this client for good; it says so by an exception more often than by `failed`."""
        self._on_fatal(f"Kafka at {self._kafka} refuses us for good: {error.str()}")

    def worked(self) -> None:
        if self.away:
            self._shut_out = self.away = False
            self._log.info("kafka_is_back", address=self._kafka.address)

    @property
    def trouble(self) -> Trouble | None:
        if not self.away:
            return None
        return Trouble(Standing.UNREACHABLE, f"Kafka at {self._kafka} cannot be reached, or does not let us in")


def shut_out_by(error: KafkaError) -> str:
    """What the broker, or the library, has against us: without the library's names of threads and brokers."""
    said = error.str().partition(": ")[2] or error.str()
    return f"{said.partition(' (after ')[0]}; look at --kafka-config"


def refused_because(error: KafkaError) -> str:
    """Why a record was not taken, in words that say what to do."""
    return CLOCK_REFUSED if error.code() == KafkaError.INVALID_TIMESTAMP else error.str()


WAITING = (
    f"Kafka has not confirmed records for more than {WAITS_S:g} s: are there fewer copies in sync than"
    " min.insync.replicas asks for?"
)


class Deliveries:
    """The records that wait for the broker's report, what it refused last, and how its clock stands to ours.

    Any thread may send and ask; the rest belongs to the thread that serves the reports.
    """

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log
        self._throttle = Throttle()
        self._numbers = count(1)
        self._sent_s: dict[int, float] = {}
        """Of those that wait, in the order in which they were sent."""
        self._refused: dict[str, KafkaError] = {}
        """topic -> why its last record was refused."""
        self._says_waiting = False
        self._clock_ahead_s = 0.0

    def sent(self, now_s: float) -> int:
        """A number for the record, to report it by."""
        number = next(self._numbers)
        self._sent_s[number] = now_s
        return number

    def not_sent(self, number: int) -> None:
        self._sent_s.pop(number, None)

    def taken(self, number: int, topic: str, now_s: float, stamped_ago_s: float | None) -> None:
        """`stamped_ago_s`: how long ago, by our clock, the broker's clock stamped the record, if it did."""
        waited_s = now_s - self._sent_s.pop(number, now_s)
        if self._refused.pop(topic, None) is not None:
            self._log.info("kafka_takes_records_again", topic=topic)
        if stamped_ago_s is not None:
            self._compare_clocks(stamped_ago_s, waited_s)

    def refused(self, number: int, topic: str, key: str | None, error: KafkaError, now_s: float) -> None:
        self._sent_s.pop(number, None)
        self._refused[topic] = error
        before = self._throttle.admit((topic, error.code()), now_s)
        if before is not None:
            more = {"silenced_before": before} if before else {}
            self._log.error("record_not_delivered", topic=topic, key=key, cause=refused_because(error), **more)

    def _compare_clocks(self, stamped_ago_s: float, waited_s: float) -> None:
        # It was stamped at some time between sending and report; only what lies outside is a difference.
        ahead_s = max(0.0, stamped_ago_s - waited_s) or min(0.0, stamped_ago_s)
        before_s, self._clock_ahead_s = self._clock_ahead_s, ahead_s if abs(ahead_s) > CLOCKS_APART_S else 0.0
        if self._clock_ahead_s and not before_s:
            self._log.warning("clock_differs", cause=self._clock_sentence())
        elif before_s and not self._clock_ahead_s:
            self._log.info("clock_agrees")

    def _clock_sentence(self) -> str:
        way = "ahead of" if self._clock_ahead_s > 0 else "behind"
        return f"this machine's clock is {abs(self._clock_ahead_s):.0f} s {way} Kafka's clock; set it right (NTP)"

    def look(self, now_s: float, away: bool) -> None:
        """Say once that records wait though the broker is there, and once that none does any more."""
        waits = self.oldest_s(now_s) > WAITS_S
        if waits == self._says_waiting or (waits and away):
            return
        self._says_waiting = waits
        if waits:
            self._log.warning("records_wait", records=len(self._sent_s), cause=WAITING)
        else:
            self._log.info("records_wait_no_more")

    def oldest_s(self, now_s: float) -> float:
        """For how long the oldest record has waited; 0 if none waits."""
        try:
            return now_s - next(iter(self._sent_s.values()))
        except (StopIteration, RuntimeError):  # None; or another thread has just sent one.
            return 0.0

    @property
    def trouble(self) -> Trouble | None:
        refused = next(iter(list(self._refused.items())), None)
        if self._clock_ahead_s:
            return Trouble(Standing.CLOCK_DIFFERS, self._clock_sentence())
        if refused is not None:
            topic, error = refused
            clock = error.code() == KafkaError.INVALID_TIMESTAMP
            standing = Standing.CLOCK_DIFFERS if clock else Standing.REFUSES_RECORDS
            return Trouble(standing, f"{topic}: {refused_because(error)}")
        return Trouble(Standing.RECORDS_WAIT, WAITING) if self._says_waiting else None
