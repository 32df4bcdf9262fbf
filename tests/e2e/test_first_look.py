"""What a newcomer tries first: the demo, and the replay of real sessions."""

import csv
import json
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
