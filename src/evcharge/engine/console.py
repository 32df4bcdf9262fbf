"""EngineCLI: what one can do at the charge point itself, as commands."""

from evcharge import clock
from evcharge.console.shell import MAX_KWH, Command, energy_wh_of, number
from evcharge.domain.battery import Battery
from evcharge.engine.service import Engine
from evcharge.errors import UsageError
from evcharge.protocol.messages import is_id, shown


def commands(engine: Engine) -> dict[str, Command]:
    charger = engine.charger

    async def plug(words: list[str]) -> str:
        if len(words) != 2:
            raise UsageError("say: plug BATTERY_KWH SOC_PERCENT")
        capacity_wh = number(words[0], "the battery in kWh", 0.1, MAX_KWH) * 1000
        soc_percent = number(words[1], "the state of charge in percent", 0, 100)
        vehicle = charger.vehicle
        power_w = vehicle.max_power_w if vehicle is not None else float(engine.config.charger.max_power_w)
        charger.plug_in(Battery(capacity_wh, capacity_wh * soc_percent / 100, power_w))
        if charger.cp_id is not None:
            engine.do([charger.account(clock.now())])
        return f"plugged in: {capacity_wh / 1000:g} kWh at {soc_percent:g} %"

    async def unplug(words: list[str]) -> str:
        engine.do(charger.unplug(clock.now()))
        return "unplugged"

    async def charge(words: list[str]) -> str:
        if len(words) not in (1, 2) or not is_id(words[0]):
            raise UsageError("say: charge DRIVER_ID [KWH]")
        energy_wh = energy_wh_of(words[1]) if len(words) == 2 else None
        if not engine.has_monitor:
            raise UsageError("no Monitor is connected, so nobody can be asked")
        request = charger.ask(words[0], energy_wh, clock.now())
        answer = await engine.ask(request)
        if answer.accepted:
            return f"accepted: session {answer.session_id}"
        return f"refused: {answer.reason} ({answer.code})"

    async def stop(words: list[str]) -> str:
        if charger.charge is None:
            raise UsageError("no charge runs")
        engine.do(charger.stop_here(clock.now()))
        return "stopped"

    async def fault(words: list[str]) -> str:
        if not words or not is_id(words[0]):
            raise UsageError("say: fault CODE [DESCRIPTION]")
        description = shown(" ".join(words[1:])) or f"simulated fault {words[0]}"
        engine.do(charger.fail(words[0], description, clock.now()))
        return f"faulty: {words[0]}"

    async def repair(words: list[str]) -> str:
        if charger.fault_code is None:
            raise UsageError("nothing is faulty")
        engine.do(charger.repair(clock.now()))
        return "repaired"

    async def status(words: list[str]) -> str:
        vehicle, running = charger.vehicle, charger.charge
        parts = [
            f"charge point {charger.cp_id or 'unknown yet'}",
            "Monitor connected" if engine.has_monitor else "no Monitor",
            f"vehicle at {vehicle.soc_percent:.1f} %" if vehicle is not None else "no vehicle",
            f"charging {running.energy_wh} Wh for {running.driver_id}" if running is not None else "not charging",
            f"faulty: {charger.fault_code}" if charger.fault_code is not None else "healthy",
            f"{len(charger.unsettled)} completions without a receipt",
        ]
        return "; ".join(parts)

    return {
        "status": Command("", "vehicle, charge, fault and what waits for a receipt", status),
        "plug": Command("BATTERY_KWH SOC_PERCENT", "plug a vehicle in", plug),
        "unplug": Command("", "unplug the vehicle, which ends its charge", unplug),
        "charge": Command("DRIVER_ID [KWH]", "ask for a charge here, as this driver", charge),
        "stop": Command("", "press the stop button", stop),
        "fault": Command("CODE [DESCRIPTION]", "simulate a fault, which ends the charge", fault),
        "repair": Command("", "repair the fault", repair),
    }
