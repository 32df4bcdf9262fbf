"""The journal, on a real disk: whatever a power cut leaves of it, no session is lost and none changes its bill."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypedDict
from uuid import UUID

import pytest
from msgspec.structs import replace

from evcharge.domain.session import EndReason
from evcharge.engine.journal import Journal
from evcharge.errors import EnvironmentFault
from evcharge.protocol.messages import ChargeCompletion, ChargingData, derived_id, encode

SESSION = UUID("8b7c1c80-1111-4111-8111-000000000001")
OTHER_SESSION = UUID("8b7c1c80-1111-4111-8111-000000000002")
START = datetime(2026, 1, 1, tzinfo=UTC)


class Common(TypedDict):
    cp_id: str
    session_id: UUID
    driver_id: str


def common(session_id: UUID) -> Common:
    return {"cp_id": "CP001", "session_id": session_id, "driver_id": "D1"}


def reading(seq: int, session_id: UUID = SESSION) -> ChargingData:
    return ChargingData(
        message_id=derived_id(session_id, f"reading {seq}"),
        timestamp=START + timedelta(seconds=seq),
        **common(session_id),
        seq=seq,
        energy_wh=seq * 100,
        power_w=11_000,
        soc_percent=20.0 + seq,
    )


def completion(session_id: UUID = SESSION) -> ChargeCompletion:
    return ChargeCompletion(
        message_id=derived_id(session_id, "completion"),
        timestamp=START + timedelta(hours=1),
        **common(session_id),
        seq=3,
        energy_wh=399,
        end_reason=EndReason.STOPPED,
        started_at=START,
        ended_at=START + timedelta(hours=1),
    )


def broken_off_after(last: ChargingData) -> ChargeCompletion:
    """What is owed to the driver and to Central when the power went after this reading."""
    return ChargeCompletion(
        message_id=derived_id(last.session_id, "completion"),
        timestamp=last.timestamp,
        cp_id=last.cp_id,
        session_id=last.session_id,
        driver_id=last.driver_id,
        seq=last.seq + 1,
        energy_wh=last.energy_wh,
        end_reason=EndReason.ENGINE_RESTARTED,
        started_at=START,
        ended_at=last.timestamp,
        soc_percent=last.soc_percent,
    )


def file_of(root: Path, session_id: UUID = SESSION) -> Path:
    return root / "cp-CP001" / f"{session_id}.jsonl"


def written(root: Path, *entries: ChargingData | ChargeCompletion) -> Path:
    """The file that these entries leave behind when the process dies."""
    journal = Journal(root, "CP001")
    for entry in entries:
        journal.write(entry)
    journal.close()
    return file_of(root, entries[0].session_id)


def reloaded(root: Path) -> list[ChargeCompletion]:
    """What the next process finds."""
    journal = Journal(root, "CP001")
    try:
        return journal.unsettled()
    finally:
        journal.close()


def test_an_empty_journal_owes_nothing(tmp_path: Path) -> None:
    assert reloaded(tmp_path / "not" / "there" / "yet") == []


def test_each_entry_is_a_line_as_it_was_sent(tmp_path: Path) -> None:
    path = written(tmp_path, reading(0), reading(1), completion())
    assert path.read_bytes() == b"".join(encode(entry) + b"\n" for entry in (reading(0), reading(1), completion()))


def test_an_entry_is_in_the_file_as_soon_as_it_is_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "CP001")
    descriptor = journal.write(reading(0))
    assert file_of(tmp_path).read_bytes() == encode(reading(0)) + b"\n"
    os.fdatasync(descriptor)
    journal.sync_folder()
    assert journal.write(reading(1)) == descriptor
    journal.close()


def test_a_completion_without_a_receipt_comes_back_as_it_was(tmp_path: Path) -> None:
    written(tmp_path, reading(0), reading(1), completion())
    assert reloaded(tmp_path) == [completion()]
    assert reloaded(tmp_path) == [completion()]


def test_a_completion_alone_is_enough(tmp_path: Path) -> None:
    written(tmp_path, completion())
    assert reloaded(tmp_path) == [completion()]


def test_a_session_that_broke_off_gets_a_completion_from_its_last_reading(tmp_path: Path) -> None:
    path = written(tmp_path, reading(0), reading(1), reading(2))
    assert reloaded(tmp_path) == [broken_off_after(reading(2))]
    assert path.read_bytes().endswith(b"\n" + encode(broken_off_after(reading(2))) + b"\n")
    assert reloaded(tmp_path) == [broken_off_after(reading(2))]


def test_a_session_that_broke_off_while_it_waited_for_a_vehicle_is_owed_nothing(tmp_path: Path) -> None:
    only = replace(reading(0), power_w=0, soc_percent=None)
    written(tmp_path, only)
    (completion,) = reloaded(tmp_path)
    assert completion == broken_off_after(only)
    assert (completion.energy_wh, completion.seq, completion.soc_percent) == (0, 1, None)


def test_several_sessions_do_not_mix(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "CP001")
    for seq in range(3):
        journal.write(reading(seq))
        journal.write(reading(seq, OTHER_SESSION))
    journal.write(completion(OTHER_SESSION))
    journal.close()
    assert reloaded(tmp_path) == [broken_off_after(reading(2)), completion(OTHER_SESSION)]


# Power cuts


def test_a_last_reading_cut_off_at_any_byte_costs_that_reading_at_the_most(tmp_path: Path) -> None:
    whole = written(tmp_path, reading(0), reading(1), reading(2)).read_bytes()
    last_line_at = len(encode(reading(0)) + encode(reading(1))) + 2
    for cut_at in range(last_line_at, len(whole) + 1):
        file_of(tmp_path).write_bytes(whole[:cut_at])
        last = reading(2) if cut_at >= len(whole) - 1 else reading(1)
        assert reloaded(tmp_path) == [broken_off_after(last)], f"cut at byte {cut_at} of {len(whole)}"


def test_what_was_told_after_one_power_cut_is_told_the_same_after_the_next(tmp_path: Path) -> None:
    """Or else Central bills one energy, and hears of another under the same message id."""
    whole = written(tmp_path, reading(0), reading(1), reading(2)).read_bytes()
    last_line_at = len(encode(reading(0)) + encode(reading(1))) + 2
    changed = []
    for cut_at in range(last_line_at, len(whole) + 1):
        file_of(tmp_path).write_bytes(whole[:cut_at])
        first = reloaded(tmp_path)
        if reloaded(tmp_path) != first:
            changed.append(cut_at - len(whole))
    assert changed == []


def test_a_completion_cut_off_at_any_byte_is_whole_or_made_anew_from_the_last_reading(tmp_path: Path) -> None:
    whole = written(tmp_path, reading(0), reading(2), completion()).read_bytes()
    last_line_at = len(encode(reading(0)) + encode(reading(2))) + 2
    for cut_at in range(last_line_at, len(whole) + 1):
        file_of(tmp_path).write_bytes(whole[:cut_at])
        expected = completion() if cut_at >= len(whole) - 1 else broken_off_after(reading(2))
        assert reloaded(tmp_path) == [expected], f"cut at byte {cut_at} of {len(whole)}"


def test_a_first_reading_cut_off_is_a_session_that_never_began(tmp_path: Path) -> None:
    whole = written(tmp_path, reading(0)).read_bytes()
    for cut_at in range(len(whole) - 1):
        file_of(tmp_path).write_bytes(whole[:cut_at])
        assert reloaded(tmp_path) == []
        assert not file_of(tmp_path).exists()


def test_a_line_that_the_disk_has_spoilt_costs_no_more_than_itself(tmp_path: Path) -> None:
    path = written(tmp_path, reading(0), reading(1), reading(2))
    path.write_bytes(path.read_bytes().replace(encode(reading(1)), b"\x00" * 40))
    assert reloaded(tmp_path) == [broken_off_after(reading(2))]


@pytest.mark.parametrize(
    "spoilt",
    [
        b'{"type":"charging_data_of_tomorrow"}\n',
        encode(completion()).replace(b'"energy_wh":399', b'"energy_wh":"399"') + b"\n",
    ],
)
def test_a_file_of_whole_lines_that_cannot_be_read_is_not_thrown_away(tmp_path: Path, spoilt: bytes) -> None:
    """It is money: a person may still make something of it, or an older evcharge reads a newer one's journal."""
    path = written(tmp_path, reading(0))
    path.write_bytes(spoilt)
    journal = Journal(tmp_path, "CP001")
    assert journal.unsettled() == []
    (kept,) = journal.unreadable
    assert kept.read_bytes() == spoilt
    journal.close()
    assert reloaded(tmp_path) == []
    assert [file.read_bytes() for file in path.parent.iterdir() if file.name != "lock"] == [spoilt]


def test_an_entry_after_one_that_was_written_by_half_is_not_lost(tmp_path: Path) -> None:
    """As when the disk was full for a moment: the Engine goes on, and so must the journal."""
    path = written(tmp_path, reading(0))
    path.write_bytes(path.read_bytes() + encode(reading(1))[:50])
    journal = Journal(tmp_path, "CP001")
    journal.write(completion())
    journal.close()
    assert reloaded(tmp_path) == [completion()]


# Settled


def test_the_receipt_deletes_the_file(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "CP001")
    journal.write(completion())
    journal.settle(SESSION)
    assert not file_of(tmp_path).exists()
    assert journal.unsettled() == []
    journal.close()
    assert reloaded(tmp_path) == []


def test_a_receipt_for_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "CP001")
    journal.write(completion())
    journal.settle(OTHER_SESSION)
    journal.settle(SESSION)
    journal.settle(SESSION)
    journal.close()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_no_session_keeps_a_descriptor_once_it_is_settled_or_set_aside(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "CP001")
    before = open_files()
    for number in range(20):
        session_id = UUID(int=number)
        journal.write(completion(session_id))
        journal.sync_folder()
        (journal.settle if number % 2 else journal.set_aside)(session_id)
    assert open_files() == before
    journal.close()


def test_a_closed_journal_keeps_no_descriptor(tmp_path: Path) -> None:
    before = open_files()
    written(tmp_path, completion(), completion(OTHER_SESSION))
    assert open_files() == before


def test_a_session_that_central_refuses_is_set_aside_and_kept(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "CP001")
    journal.write(completion())
    aside = journal.set_aside(SESSION)
    assert aside.read_bytes() == encode(completion()) + b"\n"
    assert aside.suffix != ".jsonl"
    assert not file_of(tmp_path).exists()
    journal.close()
    assert reloaded(tmp_path) == []
    assert aside.exists()


def test_to_set_aside_what_the_disk_never_took_is_no_error(tmp_path: Path) -> None:
    """The disk was full, the Engine went on; Central's refusal must not end its link to the Monitor."""
    journal = Journal(tmp_path, "CP001")
    journal.set_aside(SESSION)
    journal.close()


# The folder


@pytest.mark.parametrize("cp_id", ["..", ".", "CP001", "STATION:1", "a.b", "-", "x" * 64])
def test_any_id_has_a_folder_of_its_own_inside(tmp_path: Path, cp_id: str) -> None:
    root = tmp_path / "journal"
    journal = Journal(root, cp_id)
    journal.write(completion())
    journal.close()
    (folder,) = root.iterdir()
    assert folder.name == f"cp-{cp_id}"
    assert folder.resolve().parent == root.resolve()
    assert list(tmp_path.iterdir()) == [root]


def test_charge_points_do_not_see_each_others_sessions(tmp_path: Path) -> None:
    written(tmp_path, completion())
    other = Journal(tmp_path, "CP002")
    assert other.unsettled() == []
    other.close()


def test_two_engines_in_one_folder_are_refused(tmp_path: Path) -> None:
    first = Journal(tmp_path, "CP001")
    with pytest.raises(EnvironmentFault, match=r"another Engine keeps its journal in .*cp-CP001; choose another"):
        Journal(tmp_path, "CP001")
    Journal(tmp_path, "CP002").close()
    first.close()
    Journal(tmp_path, "CP001").close()


def test_a_folder_that_cannot_be_made_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFault, match=r"the journal .* cannot be written \(Not a directory\)"):
        Journal(tmp_path / "file", "CP001")


def test_other_files_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    path = written(tmp_path, completion())
    (path.parent / "notes.txt").write_text("mine")
    assert reloaded(tmp_path) == [completion()]
    assert (path.parent / "notes.txt").read_text() == "mine"


def test_the_files_are_nobody_elses_to_read(tmp_path: Path) -> None:
    assert written(tmp_path, completion()).stat().st_mode & 0o077 == 0


def test_the_folders_are_for_who_runs_the_engine_alone(tmp_path: Path) -> None:
    Journal(tmp_path / "new" / "journal", "CP001").close()
    for folder in ("new/journal", "new/journal/cp-CP001"):
        assert (tmp_path / folder).stat().st_mode & 0o777 == 0o700, folder
