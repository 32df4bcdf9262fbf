"""AdminCLI: every command, at Central itself and from elsewhere, against the running system."""

import re
from collections.abc import Callable, Iterator
from datetime import date, timedelta

import pytest
from harness import Program, World, eventually

from kafka_broker import Broker

SLOW = ("--time-scale", "1", "--data-interval", "0.1")

Answer = Callable[[str, str], str]
"""Type a command, and wait until the answer has this text; the answer."""


def answers_of(program: Program) -> Answer:
    def answer(line: str, expected: str) -> str:
        before = len(program.output)
        program.say(line)
        eventually(
            lambda: expected in program.output[before:],
            f"{line!r} is answered with {expected!r}, not with:\n{program.output[before:]}\n{program.log}",
        )
        return program.output[before:]

    return answer


def from_elsewhere(world: World, *words: str, role: str = "operator", name: str = "admin") -> Program:
    """`evcharge admin` beside the Central that runs, with a token of its own."""
    (central,) = [program for program in world.programs if program.name == "central"]
    token = world.token(f"{name}-{len(world.programs)}", role)
    url = f"http://127.0.0.1:{central.http_port}"
    return world.start(name, "admin", *words, "--url", url, env={"EVCHARGE_TOKEN": token})


@pytest.mark.parametrize("where", ["at Central", "elsewhere"])
def test_every_command(world: World, where: str) -> None:
    central = world.central()
    world.charge_point("CP001", central, "--location", "Harbour [bay 1]", engine=SLOW)
    console = central if where == "at Central" else from_elsewhere(world)
    answer = answers_of(console)

    answer("totals", "charge points: 1 (0 DISCONNECTED, 1 ACTIVE, 0 CHARGING, 0 FAULTY); 0 out of service")
    answer("totals", "Kafka: ok; database: ok")
    assert re.search(r"^CP001 +ACTIVE +Harbour \[bay 1\] +0.30 EUR$", answer("list", "CP001"), re.M)
    answer("list CHARGING", "no charge point is so")
    assert "up to 22.0 kW" in answer("show CP001", "last heard")
    answer("drivers", "no driver has been added")
    answer("add driver ana energy=40 hours=12", "added: driver ana")
    answer("drivers", "up to 40.000 kWh, up to 12 h")
    answer("add cp CP002 price=0.60 power=22", "its key, which is not stored and cannot be shown again: ")
    answer("show CP002", "up to 0.60/kWh, up to 22.0 kW")
    answer("sessions", "no session is open")

    accepted = answer("start CP001 ana 5", "accepted: session ")
    session_id = accepted.split()[-1]
    world.until_session("charging")
    assert session_id in answer("sessions", "ana")
    assert re.search(r"^energy +\d+\.\d+ of 5\.000 kWh at 11\.0 kW", answer("show CP001", "cost so far"), re.M)
    answer(f"session {session_id}", "receipt       none yet")
    answer("stop CP001", f"stopping: session {session_id}")
    session = world.until_session("completed")
    assert session["end_reason"] == "stopped"
    eventually(lambda: "ACTIVE" in answer("list CP001", "CP001"), "CP001 is free again")
    answer(f"session {session_id}", "receipt       revision 1")
    answer("stop CP001", "error: no session is open at CP001")

    today = date.today()
    for filters in ("", " driver=ana", " cp=CP001", f" since={today} until={today} limit=5"):
        assert "stopped" in answer(f"history{filters}", session_id)
    answer("history driver=bo", "no session is so")
    answer(f"history until={today - timedelta(days=2)}", "no session is so")
    answer("revenue", f"{session['cost']}  EUR")
    answer("revenue cp", "CP001")

    answer("out CP001", "out of service: CP001")
    answer("out CP001", "CP001 was out of service already")
    answer("start CP001 ana", "CP001 has been taken out of service by its operator")
    answer("in all", "in service: 1 charge points that were not before")
    answer("price CP001 0.45", "CP001 costs 0.45 EUR/kWh")
    answer("price CP001 0.5 CHF", "CP001 costs 0.5 CHF/kWh")
    assert "set by an operator" in answer("show CP001", "last heard")
    answer("price CP001 own", "EUR/kWh again, its own price")
    answer(
        "ceilings CP001 price=0.60 currency=EUR power=22", "CP001 may register up to 0.60 EUR/kWh, up to 22.0 kW"
    )
    answer("ceilings all power=default", "changed: the ceilings of 2 charge points")
    assert "up to 0.60 EUR/kWh" in answer("show CP001", "last heard")
    answer("limits ana energy=40 cost=30 hours=12", "up to 40.000 kWh, up to 30, up to 12 h")
    answer("limits ana signed=yes", "up to 12 h, confirmed by the driver")
    answer("limits ana signed=no", "up to 12 h")
    answer("limits ana hours=default", "up to 40.000 kWh, up to 30")
    answer("faults", "description" if "connection_lost" in answer("faults CP001", "fault") else "no fault")
    answer("view charging", "the screen shows those that are charging")
    answer("view", "the screen shows all charge points")

    answer("export sessions.csv cp=CP001", "written: sessions.csv, ")
    head, row = (world.folder / "sessions.csv").read_text().splitlines()
    assert head.startswith("session_id,cp_id,driver_id,status,")
    assert row.startswith(f"{session_id},CP001,ana,completed,stopped,")
    answer("export sessions.csv", "error: sessions.csv is there already; choose another name")

    answer("remove driver ana", "removed: driver ana")
    answer("remove cp CP002", "removed: charge point CP002")
    audit = answer("audit 50", "add driver")
    for action in (
        "start",
        "stop",
        "out of service",
        "in service",
        "price",
        "remove driver",
        "remove charge point",
    ):
        assert re.search(rf"\b{action}\b", audit), action
    assert ("console" if where == "at Central" else "http") in audit

    answer("help", "start CP_ID DRIVER_ID [KWH]")
    console.say("quit")
    assert console.wait() == 0


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("lst", "error: there is no command 'lst'; did you mean 'list'?"),
        ("show CP999", "there is no charge point CP999"),
        ("show", "error: say: show CP_ID"),
        ("show 'CP 1'", "error: 'CP 1' is no id"),
        ("out ..", "there is no charge point .."),
        ("in .", "there is no charge point ."),
        ("show ..", "there is no charge point .."),
        ("add cp ..", "'..' is no id; an id has"),
        ("add driver -x", "'-x' is no id; an id has"),
        ("session 7", "error: '7' is no session id"),
        (
            "session 00000000-0000-4000-8000-000000000000",
            "there is no session 00000000-0000-4000-8000-000000000000",
        ),
        ("stop 00000000-0000-4000-8000-000000000000", "no session 00000000-0000-4000-8000-000000000000 is open"),
        ("start CP999 ana", "there is no charge point CP999"),
        ("start CP001 nobody", "there is no driver nobody"),
        ("start CP001 ana lots", "error: the energy in kWh must be a number"),
        ("out", "error: say: out CP_ID|all"),
        ("price CP001 cheap", "error: a price is a number such as 0.35, not 'cheap'"),
        ("price CP001 -1", "must be a number from 0 to 1000"),
        ("price CP001 1 euro", "error: a currency is one of ISO 4217 such as EUR, not 'euro'"),
        ("price CP001 1 ABC", "error: a currency is one of ISO 4217 such as EUR, not 'ABC'"),
        ("history last=5", "error: 'last=5' is no filter; say cp=, driver="),
        ("history since=yesterday", "error: a day is written 2026-11-30, not 'yesterday'"),
        ("history limit=0", "error: limit= must be a whole number from 1 to 1000, not '0'"),
        ("history before=x", "`next_before` of "),
        ("revenue day 2026-02-01 2026-01-01", "ends on 2026-01-01, before it begins"),
        ("add driver ana", "the driver ana is there already"),
        ("add cp CP003 price=dear", "error: "),
        ("add driver bob energy=-1", "error: "),
        ("add bus ana", "error: say: add cp CP_ID, or add driver DRIVER_ID"),
        ("remove driver nobody", "there is no driver nobody"),
        ("remove cp CP999", "there is no charge point CP999"),
        ("export", "error: say: export FILE"),
        ("export x.csv limit=5", "error: export takes neither before= nor limit="),
        ("export no/such/folder.csv", "error: no/such/folder.csv cannot be written: No such file or directory"),
        ("totals now", "error: totals takes nothing more"),
    ],
)
def test_a_wrong_command_is_answered_with_what_is_wrong(consoles: list[Answer], line: str, sentence: str) -> None:
    for answer in consoles:
        answer(line, sentence)


@pytest.fixture(scope="module")
def consoles(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Answer]]:
    """One Central for all that is refused, seen from both consoles."""
    world = World(tmp_path_factory.mktemp("consoles"), broker.bootstrap)
    central = world.central(open_registration=False)
    key = world.start("key", "cp", "add", "CP001", "--db", "evcharge.db")
    assert key.wait() == 0
    assert world.start("ana", "drivers", "add", "ana", "--db", "evcharge.db").wait() == 0
    world.charge_point("CP001", central, "--key", key.output.strip(), engine=SLOW)
    yield [answers_of(central), answers_of(from_elsewhere(world))]
    world.stop()


def test_one_command_from_the_command_line(world: World) -> None:
    world.central()
    asked = from_elsewhere(world, "list", name="asked")
    assert asked.wait() == 0
    assert asked.output == "no charge point is so\n"
    wrong = from_elsewhere(world, "show", "CP999", name="wrong")
    assert wrong.wait() == 1
    assert "there is no charge point CP999" in wrong.log
    unknown = from_elsewhere(world, "fly", name="unknown")
    assert unknown.wait() == 2
    viewer = from_elsewhere(world, "out", "all", name="viewer", role="viewer")
    assert viewer.wait() == 1
    assert "is a viewer's; to change something takes an operator's" in viewer.log


@pytest.mark.parametrize(
    ("settings", "code", "sentence"),
    [
        ({}, 2, "no token; set EVCHARGE_TOKEN to what `evcharge token add NAME"),
        ({"EVCHARGE_TOKEN": "wrong"}, 1, "this token is not known"),
        (
            {"EVCHARGE_TOKEN": "any", "EVCHARGE_URL": "http://127.0.0.1:1"},
            3,
            "no Central answers at http://127.0.0.1:1",
        ),
        ({"EVCHARGE_TOKEN": "any", "EVCHARGE_URL": "gopher://x"}, 3, "no Central answers at gopher://x"),
    ],
)
def test_without_access_there_is_one_sentence(
    world: World, settings: dict[str, str], code: int, sentence: str
) -> None:
    url = f"http://127.0.0.1:{world.central().http_port}"
    admin = world.start("admin", "admin", "list", env={"EVCHARGE_URL": url} | settings)
    assert admin.wait() == code
    assert sentence in admin.log
    assert "Traceback" not in admin.log


def test_headless_there_is_no_console(world: World) -> None:
    central = world.central("--headless")
    central.say("quit")
    central.say("totals")
    answers_of(from_elsewhere(world))("totals", "charge points: 0")
    assert "charge points" not in central.output
    assert central.process.poll() is None


def test_central_goes_on_when_its_stdin_ends(world: World) -> None:
    central = world.central()
    assert central.process.stdin is not None
    central.process.stdin.close()
    asked = from_elsewhere(world, "totals", name="asked")
    assert asked.wait() == 0
    assert central.process.poll() is None
