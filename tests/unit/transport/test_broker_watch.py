"""What is said of a broker that is there, and takes nothing."""

import structlog
from confluent_kafka import KafkaError
from structlog.testing import CapturingLogger

from evcharge.transport.broker_watch import Deliveries, Standing


class Said:
    """Deliveries, and the names of what they have logged."""

    def __init__(self) -> None:
        self._told = CapturingLogger()
        self.deliveries = Deliveries(structlog.wrap_logger(self._told, processors=[]))

    @property
    def events(self) -> list[str]:
        return [str(call.kwargs["event"]) for call in self._told.calls]

    @property
    def standing(self) -> Standing | None:
        trouble = self.deliveries.trouble
        return trouble.standing if trouble is not None else None


def test_records_that_wait_are_told_once_and_once_that_none_does() -> None:
    said = Said()
    number = said.deliveries.sent(0.0)
    for now_s in (9.0, 11.0, 12.0, 13.0):
        said.deliveries.look(now_s, away=False)
    assert said.events == ["records_wait"]
    assert said.standing is Standing.RECORDS_WAIT
    said.deliveries.taken(number, "t", 14.0, None)
    said.deliveries.look(15.0, away=False)
    assert said.events == ["records_wait", "records_wait_no_more"]
    assert said.standing is None


def test_records_that_wait_because_the_broker_is_away_are_no_news() -> None:
    said = Said()
    said.deliveries.sent(0.0)
    said.deliveries.look(60.0, away=True)
    assert said.events == []


def test_a_refusal_is_told_once_a_while_and_ends_with_the_first_record_that_is_taken() -> None:
    said = Said()
    for now_s in (0.0, 1.0, 2.0):
        number = said.deliveries.sent(now_s)
        said.deliveries.refused(number, "t", "ana", KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), now_s)
    assert said.events == ["record_not_delivered"]
    assert said.standing is Standing.REFUSES_RECORDS
    said.deliveries.taken(said.deliveries.sent(3.0), "other", 3.0, None)
    assert said.standing is Standing.REFUSES_RECORDS
    said.deliveries.taken(said.deliveries.sent(3.0), "t", 3.0, None)
    assert said.standing is None
    assert said.events[1:] == ["kafka_takes_records_again"]


def test_a_record_that_is_refused_for_its_time_names_the_clock() -> None:
    said = Said()
    said.deliveries.refused(said.deliveries.sent(0.0), "t", None, KafkaError(KafkaError.INVALID_TIMESTAMP), 0.0)
    assert said.standing is Standing.CLOCK_DIFFERS
    trouble = said.deliveries.trouble
    assert trouble is not None
    assert "clock" in trouble.reason


def test_a_clock_that_differs_is_told_once_and_once_that_it_agrees() -> None:
    for stamped_ago_s, way in ((7200.0, "ahead of"), (-7200.0, "behind")):
        said = Said()
        for ago_s in (0.1, stamped_ago_s, stamped_ago_s, 0.1, 0.1):
            said.deliveries.taken(said.deliveries.sent(5.0), "t", 5.5, ago_s)
            if ago_s == stamped_ago_s:
                assert said.standing is Standing.CLOCK_DIFFERS
                assert said.deliveries.trouble is not None
                assert way in said.deliveries.trouble.reason
        assert said.events == ["clock_differs", "clock_agrees"]
        assert said.standing is None


def test_a_report_that_has_waited_for_an_hour_says_nothing_of_the_clock() -> None:
    said = Said()
    said.deliveries.taken(said.deliveries.sent(0.0), "t", 3600.0, 3500.0)
    assert said.standing is None
