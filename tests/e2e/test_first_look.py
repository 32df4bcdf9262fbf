"""What a newcomer tries first: the demo, and the replay of real sessions."""

import csv
import json
import re
import signal
from collections.abc import Iterable
from pathlib import Path

import pytest
from harness import World, eventually

HEADER = (
    "session_id,charge_point_id,driver_id,plugged_in_at,plugged_seconds,charging_seconds,energy_kwh,port_type,"
    "ended_by,latitude,longitude"
)


def test_the_demo_needs_nothing_and_sums_up(tmp_path: Path) -> None:
    world = World(tmp_path, "unused")
    try:
        demo = world.start(
            "demo",
            *("demo", "--sessions", "4", "--json", "--time-scale", "1200"),
            env={"TMPDIR": str(tmp_path)},
        )
        assert demo.wait(60) == 0, demo.log
        summary = json.loads(demo.output)
        assert "trial broker" in summary["kafka"]
        assert len(summary["sessions"]) == 4
        for session in summary["sessions"]:
            assert session["completed"] is True
            assert session["reason"] == "target_reached"
            assert session["energy_wh"] > 0
            assert float(session["cost"]) > 0
            assert session["driver"] in ("ana", "bo")
            assert session["charge_point"] in ("CP001", "CP002", "CP003")
        assert programs_in(tmp_path) == []
    finally:
        world.stop()


def test_the_demo_on_a_real_kafka_ends_clean_at_ctrl_c(world: World) -> None:
    demo = world.start(
        "demo", "demo", "--kafka", world.kafka, "--time-scale", "600", env={"TMPDIR": str(world.folder)}
    )
    eventually(lambda: "receipt for" in demo.output, "the demo shows a receipt", 60)
    assert "is CHARGING" in demo.output
    demo.signal(signal.SIGINT)
    assert demo.wait(8) == 0
    assert "Traceback" not in demo.log
    assert programs_in(world.folder) == []


def programs_in(folder: Path) -> list[str]:
    """The command lines of the programs that a demo has started there and not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
        except OSError:  # it has ended in the meantime
            continue
        if "evcharge" in words and any(word.startswith(str(folder)) for word in words):
            found.append(" ".join(words))
    return found


def sessions_file(path: Path, rows: Iterable[str]) -> Path:
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def test_a_replay_bills_each_row_to_the_wh_and_names_those_that_make_no_sense(world: World) -> None:
    rows = [
        f"S-{n},PORT-{n % 3},D-{n % 4},2011-07-29T{8 + n % 12:02d}:{n % 60:02d}:00-07:00,9000,"
        f"{3000 + 37 * n},{1.5 + 0.123457 * n:.6f},Level 2,,37.4,-122.1"
        for n in range(60)
    ]
    odd = [
        "S-60,PORT-0,D-0,2011-07-30T08:00:00-07:00,60,0,1.0,Level 2,,37.4,-122.1",
        "S-61,PORT-0,D-0,yesterday,60,60,1.0,Level 2,,37.4,-122.1",
        "S-62,PORT 0,D-0,2011-07-30T08:00:00-07:00,60,60,1.0,Level 2,,37.4,-122.1",
        "S-63,PORT-0,D-0,2011-07-30T08:00:00-07:00,60,60,NaN,Level 2,,37.4,-122.1",
        "S-64,PORT-0,D-0,2011-07-30T08:00:00-07:00,60,60,0.0001,Level 2,,37.4,-122.1",
        "S-59,PORT-0,D-0,2011-07-30T08:00:00-07:00,60,60,1.0,Level 2,,37.4,-122.1",
        "S-65",
    ]
    sessions_file(world.folder / "sessions.csv", rows + odd)
    replay = world.start("replay", "replay", "sessions.csv", "--speed", "100000", "--kafka", world.kafka, "--json")
    assert replay.wait(90) == 0, replay.log
    figures = json.loads(replay.output)
    with (world.folder / "sessions.csv").open() as file:
        expected_wh = sum(round(float(row["energy_kwh"]) * 1000) for row in list(csv.DictReader(file))[:60])
    assert figures["done"] == figures["sessions"] == 60
    assert figures["failed"] == 0
    assert figures["differences"] == []
    assert figures["file_wh"] == figures["billed_wh"] == expected_wh
    assert [skip["line"] for skip in figures["skipped"]] == [62, 63, 64, 65, 66, 67, 68]
    assert 0 < figures["request_p50_ms"] <= figures["request_p99_ms"]


def test_one_row_of_100_megawatts_is_skipped_with_its_reason_and_the_others_are_done(world: World) -> None:
    """And a file out of order is sorted, and all of that is said before it starts; see the exit codes, too."""
    (world.folder / "sessions.csv").write_bytes(
        b"\xef\xbb\xbfsession_id,charge_point_id,driver_id,plugged_in_at,charging_seconds,energy_kwh\r\n"
        b"S-1,CP001,ana,2026-11-20T08:10:00+01:00,3600,7.4\r\n"
        b"S-2,CP002,bo,2026-11-20T08:05:00+01:00,1,28\r\n"
        b"S-3,CP003,cy,2026-11-20T08:00:00+01:00,5400,11.25"
    )
    replay = world.start("replay", "replay", "sessions.csv", "--strict", "--kafka", world.kafka)
    assert replay.wait(90) == 1, replay.log  # by --strict alone
    lines = replay.output.splitlines()
    assert lines[0] == "sessions.csv: 2 sessions from 2026-11-20 07:00 to 2026-11-20 07:10 UTC (0.0 days)"
    assert lines[1] == "at 2 charge points by 2 drivers, 18.650 kWh"
    assert lines[2] == "expected   at least 0:00:00 at 200,000 times the speed, and what the programs need"
    assert lines[3] == "order      sorted by plugged_in_at, as line 4 is earlier than one before it"
    assert lines[4] == "line 3 skipped: 28 kWh in 1 s are 100,800 kW; is energy_kwh in Wh?"
    assert lines[5] == "sessions   2 done, 0 failed, 1 rows skipped"
    assert lines[6] == "energy     18650 Wh in the file, 18650 Wh billed: equal, row by row"


def test_an_interrupted_replay_says_its_true_time_and_what_is_unfinished(world: World) -> None:
    sessions_file(
        world.folder / "sessions.csv",
        [
            f"S-{n},PORT-{n},D-{n},2011-07-29T{8 + 4 * n:02}:00:00-07:00,9000,{seconds},1.5,Level 2,,37.4,-122.1"
            for n, seconds in enumerate((60, 86_400, 60))
        ],
    )
    # The second begins 4 s after the first and lasts for 24 s, the third after 8.
    replay = world.start(
        "replay",
        *("replay", "sessions.csv", "--speed", "3600", "--kafka", world.kafka, "--json", "--trace", "trace"),
    )

    def under_way() -> bool:
        trace = world.folder / "trace"
        return trace.exists() and bool(
            re.search(r"charge_request_response.*D-1|D-1.*charge_request_response", trace.read_text())
        )

    eventually(under_way, "the second is under way", 60)
    replay.signal(signal.SIGINT)
    assert replay.wait(30) == 130, replay.log
    figures = json.loads(replay.output)
    assert figures["interrupted"] is True
    assert (figures["done"], figures["failed"], figures["not_begun"]) == (1, 0, 1)
    assert figures["under_way"] == [{"line": 3, "session_id": "S-1"}]
    assert figures["differences"] == []
    assert 3.9 < figures["wall_s"] < 24


def test_a_replay_goes_through_a_central_that_runs_and_never_beside_it(world: World) -> None:
    sessions_file(
        world.folder / "sessions.csv",
        ["S-1,PORT-1,D-1,2011-07-29T08:00:00-07:00,900,600,1.234567,Level 2,,37.4,-122.1"],
    )
    central = world.central()
    beside = world.start("beside", "replay", "sessions.csv", "--kafka", world.kafka)
    assert beside.wait() == 2
    assert "a Central is at work on Kafka" in beside.log
    through = world.start(
        "through",
        *("replay", "sessions.csv", "--kafka", world.kafka, "--central", f"127.0.0.1:{central.port}"),
    )
    assert through.wait() == 0, through.log
    assert "1235 Wh in the file, 1235 Wh billed: equal, row by row" in through.output
    assert world.until_session("completed")["energy_wh"] == 1235


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "cannot be read"),
        ("a,b\n1,2\n", "has no column session_id"),
        (HEADER + "\nS-1,P,D,2011-07-29T08:00:00-07:00,9,0,1.0,,,,\n", "no session that makes sense: line 2"),
    ],
)
def test_a_file_that_cannot_be_replayed_is_one_sentence(
    tmp_path: Path, content: str | None, sentence: str
) -> None:
    world = World(tmp_path, "127.0.0.1:1")
    try:
        if content is not None:
            (tmp_path / "sessions.csv").write_text(content)
        replay = world.start("replay", "replay", "sessions.csv", "--kafka", world.kafka)
        assert replay.wait() == 2
        assert sentence in replay.log
        assert "Traceback" not in replay.log
    finally:
        world.stop()
