"""What a charge point can have given: the bounds within which its meter is believed.

In sum: 1.1 times what the limits that held allow over the time since the charge was asked for. Between two
readings as well, so that one wrong reading does not use up what hours have allowed. Each bound has an end: that of
a session that was closed ends when it was closed, or a day later if the charge may have gone on without a word.
"""

import math
from datetime import datetime, timedelta

from evcharge.domain.instant import Instant
from evcharge.domain.session import FROM_CHARGE_POINT, Session
from evcharge.errors import ImplausibleMeter

TOLERANCE = 1.1
CLOCKS_S = 900.0
"""Believed between two readings beyond the time that has passed: clocks agree to within five minutes, and three
have a part in it, Central's, and the charge point's before and after it was set."""
SET_BY_S = 3600.0
"""Believed in sum beyond the time that has passed: Central's clock may be set by an hour in mid-charge."""
AT_MOST_UNHEARD_S = 24 * 3600.0
"""For so long a charge may have gone on while nothing was heard of it, or while the clock was wrong."""
TARGET_TOLERANCE = 1.02
AFTER_TARGET_S = 60.0
AFTER_TARGET_SHARE, AFTER_TARGET_WH = 0.1, 1000.0
"""A charge point may need so long to stop; what it gives meanwhile is no more than the greater of these two."""
S_PER_HOUR = 3600.0


def hold(session: Session, max_power_w: int, now: Instant) -> None:
    """Begin to measure an open session's time; `max_power_w` is the limit of one from before limits were kept."""
    _complete(session, max_power_w)
    gone_s = (now.utc - _limit_since(session)).total_seconds()
    # Before that: the clock is wrong, and for how long it has run nobody can tell.
    session.held_since_s = now.monotonic_s - (gone_s if gone_s >= 0 else AT_MOST_UNHEARD_S)
    session.peak_w = _peak_w(session)


def change_limit(session: Session, max_power_w: int, now: Instant) -> None:
    """Another limit holds from now on; what the one before it has allowed stays allowed."""
    assert session.limit_w is not None
    session.limit_before_wh += int(session.limit_w * _elapsed_s(session, now) / S_PER_HOUR)
    session.peak_w = max(_peak_w(session), max_power_w)
    session.limit_w = max_power_w
    session.limit_since = now.utc
    session.held_since_s = now.monotonic_s


def check_reading(
    session: Session, energy_wh: int, power_w: int, said_at: datetime, time_scale: float, now: Instant
) -> None:
    """Raises `ImplausibleMeter` for what the charge point cannot have given to the open session by now."""
    most_w = session.peak_w * TOLERANCE
    if (
        energy_wh <= session.sure_wh  # What was possible once stays possible.
        and energy_wh - session.energy_wh <= most_w * time_scale * CLOCKS_S / S_PER_HOUR
        and power_w <= most_w
    ):
        return
    most_w = _peak_w(session) * TOLERANCE
    if power_w > most_w:
        raise ImplausibleMeter(f"{power_w} W is more than {session.cp_id} can give, {most_w:.0f} W")
    session.sure_wh = _most_wh(session, _elapsed_s(session, now), time_scale)
    _check(session, energy_wh, now.monotonic_s - session.last_heard_s, said_at, time_scale)


def check_late_completion(
    session: Session, max_power_w: int, energy_wh: int, said_at: datetime, time_scale: float, now: Instant
) -> None:
    """The same for a completion of a session that has been closed."""
    _complete(session, max_power_w)
    closed_at = session.booked_at or session.ended_at or now.utc
    until = closed_at
    if session.end_reason not in FROM_CHARGE_POINT:
        until = max(closed_at, min(now.utc, closed_at + timedelta(seconds=AT_MOST_UNHEARD_S)))
    elapsed_s = (until - _limit_since(session)).total_seconds()
    session.sure_wh = _most_wh(session, elapsed_s if elapsed_s >= 0 else AT_MOST_UNHEARD_S, time_scale)
    last_heard_at = closed_at if session.measured_at is not None else session.requested_at
    _check(session, energy_wh, (until - last_heard_at).total_seconds(), said_at, time_scale)


def _check(session: Session, energy_wh: int, unheard_s: float, said_at: datetime, time_scale: float) -> None:
    """`unheard_s`: since the last reading that was believed, by Central's clock."""
    if energy_wh > session.sure_wh:
        raise ImplausibleMeter(
            f"{energy_wh} Wh is more than {session.cp_id} can have given to session {session.session_id},"
            f" {session.sure_wh:.0f} Wh at the most{_ADVICE}"
        )
    # By its own clock too: what had to wait for a connection comes all at once.
    by_its_clock_s = (said_at - (session.measured_at or session.requested_at)).total_seconds()
    passed_s = max(0.0, unheard_s, by_its_clock_s)
    more_wh = _peak_w(session) * TOLERANCE * time_scale * (passed_s + CLOCKS_S) / S_PER_HOUR
    if energy_wh - session.energy_wh > more_wh:
        raise ImplausibleMeter(
            f"{energy_wh} Wh is more than {session.cp_id} can have given to session {session.session_id}"
            f" {passed_s:.0f} s after {session.energy_wh} Wh, {more_wh:.0f} Wh more at the most{_ADVICE}"
        )


_ADVICE = "; if it is simulated faster than life, tell Central by --time-scale"


def _most_wh(session: Session, elapsed_s: float, time_scale: float) -> float:
    """In sum, `elapsed_s` after the present limit began to hold."""
    assert session.limit_w is not None
    by_limit_wh = session.limit_before_wh + session.limit_w * elapsed_s / S_PER_HOUR
    most_wh = TOLERANCE * time_scale * (by_limit_wh + _peak_w(session) * SET_BY_S / S_PER_HOUR)
    if session.target_energy_wh is not None:
        target_wh = session.target_energy_wh
        after_wh = min(
            _peak_w(session) * time_scale * AFTER_TARGET_S / S_PER_HOUR,
            max(target_wh * AFTER_TARGET_SHARE, AFTER_TARGET_WH),
        )
        most_wh = min(most_wh, target_wh * TARGET_TOLERANCE + after_wh)
    return most_wh


def _elapsed_s(session: Session, now: Instant) -> float:
    """Since the limit holds. A wall clock may be set ahead: it adds a day to the other one at the most."""
    held_s = now.monotonic_s - session.held_since_s
    by_wall_clock_s = (now.utc - _limit_since(session)).total_seconds()
    return max(0.0, held_s, min(by_wall_clock_s, held_s + AT_MOST_UNHEARD_S))


def _complete(session: Session, max_power_w: int) -> None:
    if session.limit_w is None:
        session.limit_w = max_power_w


def _limit_since(session: Session) -> datetime:
    return session.limit_since or session.requested_at


def _peak_w(session: Session) -> int:
    """The highest limit since the last reading that was believed."""
    if session.peak_w == 0:
        session.peak_w = max(session.limit_w or 0, _mean_limit_w(session))
    return session.peak_w


def _mean_limit_w(session: Session) -> int:
    """Of the limits before the present one: after a restart each for itself is not known any more."""
    before_s = (_limit_since(session) - session.requested_at).total_seconds()
    return math.ceil(session.limit_before_wh * S_PER_HOUR / before_s) if before_s > 0 else 0
