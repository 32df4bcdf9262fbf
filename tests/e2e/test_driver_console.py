"""DriverCLI: every command, through stdin and stdout against the running system."""

import re
import signal

from harness import World, eventually
from test_monitor_console import answer

SLOW = ("--time-scale", "20", "--soc", "50")


def test_every_command(world: World) -> None:
    central = world.central()
    world.charge_point("CP001", central, "--location", "Harbour, bay 1", engine=SLOW)
    world.charge_point("CP002", central, "--price", "0.45", engine=SLOW)
    ana = world.driver("ana")
    assert len(answer(ana, "help").splitlines()) == 7
    for command in ("list", "charge", "status", "stop", "history", "help", "quit"):
        assert answer(ana, f"help {command}").startswith(command)
    assert answer(ana, "status") == "ana has no charge running"
    assert answer(ana, "history") == "no charge yet"
    head, *free = answer(ana, "list").splitlines()
    assert head.split()[:3] == ["charge", "point", "location"]
    assert re.fullmatch(r"CP001 +Harbour, bay 1 +ACTIVE +yes +0\.30 EUR +22 kW", free[0])
    assert re.fullmatch(r"CP002 +CP002 +ACTIVE +yes +0\.45 EUR +22 kW", free[1])

    ana.say("charge CP001 0.5")
    ana.saw("accepted: CP001 for 0.30 EUR/kWh, session ")
    ana.saw("CP001: charging, 0.000 of 0.500 kWh at ")
    ana.saw("CP001: completed (target_reached), 0.500 kWh x 0.30 = 0.15 EUR")

    ana.say("charge CP002")
    ana.saw("accepted: CP002 for 0.45 EUR/kWh, session ")
    world.until_session("charging", least_wh=10)
    assert re.fullmatch(r"CP002: charging, \d\.\d{3} kWh at 11\.0 kW, battery 50 %, .* EUR", answer(ana, "status"))
    assert len(answer(ana, "list").splitlines()) == 2
    assert re.search(r"CP002 +CP002 +CHARGING +no", answer(ana, "list all"))
    ana.say("stop")
    ana.saw("stopping at CP002")
    ana.saw("CP002: completed (stopped)")

    assert len(answer(ana, "history").splitlines()) == 3
    assert len(answer(ana, "history 1").splitlines()) == 2
    ana.say("quit")
    assert ana.wait() == 0


def test_a_charge_that_was_asked_for_elsewhere_is_told_here(world: World) -> None:
    central = world.central()
    engine, _ = world.charge_point("CP001", central, engine=SLOW)
    ana = world.driver("ana")
    assert answer(ana, "status") == "ana has no charge running"
    engine.say("charge ana 0.2")
    ana.saw("CP001: charging, ")
    ana.saw("CP001: completed (target_reached), 0.200 kWh x 0.30 = 0.06 EUR")


def test_whatever_is_typed_is_answered(world: World) -> None:
    central = world.central()
    world.charge_point("CP001", central, engine=SLOW)
    ana = world.driver("ana")
    for line, sentence in (
        ("lits", "there is no command 'lits'; did you mean 'list'?"),
        ("list free", "say: list [all]"),
        ("charge", "say: charge CP_ID [KWH]"),
        ("charge CP001 much", "the energy in kWh must be a number from 0.001 to 1000, not 'much'"),
        ("charge CP009", "there is no charge point CP009"),
        ("stop", "ana has no charge running"),
        ("stop CP001", "stop takes nothing more, not 'CP001'"),
        ("status now", "status takes nothing more, not 'now'"),
        ("history none", "how many must be a whole number from 1 to 10000, not 'none'"),
        ("charge 'CP001", "no closing quotation"),
    ):
        assert answer(ana, line) == f"error: {sentence}"
    assert ana.process.stdin is not None
    ana.process.stdin.close()
    assert ana.wait() == 0


def test_within_five_seconds_it_says_that_central_is_away(world: World) -> None:
    central = world.central()
    ana = world.driver("ana")
    assert answer(ana, "status") == "ana has no charge running"
    central.signal(signal.SIGSTOP)
    eventually(lambda: "central_does_not_answer" in ana.log, "it says that Central is away", 5)
    central.signal(signal.SIGCONT)
    assert answer(ana, "status") == "ana has no charge running"


def test_a_single_command_says_so_while_it_waits(world: World) -> None:
    central = world.central()
    central.signal(signal.SIGSTOP)
    ana = world.driver("ana", "list")
    eventually(lambda: "central_does_not_answer" in ana.log, "it says that Central does not answer")
    assert ana.process.poll() is None
    central.signal(signal.SIGCONT)
    assert ana.wait() == 0
    assert ana.output == "no charge point is free now\n"


def test_without_central_each_command_says_so(world: World) -> None:
    central = world.central()
    ana = world.driver("ana", "--timeout", "5")
    assert answer(ana, "status") == "ana has no charge running"
    central.kill()
    assert answer(ana, "list") == "error: no answer from Central within 5 s; is Central running?"
    ana.say("quit")
    assert ana.wait() == 0
