"""The `evcharge` command: one sub-command a program. The one place that chooses the concrete parts."""

import asyncio
import shlex
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer
from rich.live import Live
from structlog.typing import FilteringBoundLogger
from typer.main import get_command

from evcharge import __version__, clock, options
from evcharge.children import first_of
from evcharge.console.events import EventLog
from evcharge.console.front import attended, beside, is_full_screen
from evcharge.console.shell import energy_wh_of
from evcharge.demo import Demo
from evcharge.domain.battery import LOSSES, Battery, Current, current_of
from evcharge.domain.driver import Limits
from evcharge.domain.network import Policy
from evcharge.driver import answers
from evcharge.driver.answers import Outcome
from evcharge.driver.console import DriverCLI
from evcharge.driver.service import Driver, DriverLink
from evcharge.engine.charger import PLUG_TIMEOUT_S, ChargerConfig
from evcharge.engine.console import EngineCLI
from evcharge.engine.service import Engine, EngineConfig
from evcharge.errors import EvchargeError, UsageError
from evcharge.fleet import Fleet, FleetConfig, fleet_ids
from evcharge.logs import make_log
from evcharge.monitor.config import MonitorConfig
from evcharge.monitor.console import MonitorCLI
from evcharge.monitor.service import Monitor
from evcharge.open_files import allow_open_files
from evcharge.protocol.messages import is_id
from evcharge.registry_commands import cp_app, drivers_app, me, say, token_app
from evcharge.replay.plan import plan_of
from evcharge.replay.report import announcement, report, text_of
from evcharge.replay.rows import read_sessions
from evcharge.replay.run import Replay, ReplayConfig, progress_bar
from evcharge.running import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    SERVICE_ENDS_WITHIN_S,
    exit_code_of,
    open_standard_streams,
    run_until_signal,
)
from evcharge.text_files import lines_of, named
from evcharge.transport import tls
from evcharge.transport.kafka_settings import KafkaAccess, read_settings
from evcharge.transport.publisher import Publisher
from evcharge.transport.tcp import Address, Backoff
from evcharge.transport.trace import Trace
from evcharge.zones import machine_zone

# What needs the database is imported where it is used: it takes longer to load than a driver's command to run.

OTHER_FILES = 512
"""Beside the connections of Monitors: database, Kafka, HTTP, and those that are just being turned away."""
VEHICLE_W = {Current.AC: 11_000.0, Current.DC: 120_000.0}
"""What a vehicle takes of which nothing else is said: three phases of 16 A; a peak of twice 60 kWh an hour."""
FILES_OF_A_CHARGE_POINT = 8
"""In a fleet: three ends of connections, the Engine's port, its journal and lock."""

PROGRAMS = {"EV_Central": "central", "EC_CP_M": "monitor", "EV_CP_E": "engine", "EV_Driver": "driver"}
"""The sub-commands that are programs of their own, too."""

app = typer.Typer(
    name="evcharge",
    help="Runs a network of electric-vehicle charge points.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(cp_app, name="cp")
app.add_typer(drivers_app, name="drivers")
app.add_typer(token_app, name="token")


def _print_version(context: typer.Context, wanted: bool) -> None:
    if wanted:
        typer.echo(f"{context.find_root().info_name} {__version__}")
        raise typer.Exit


@app.callback()
def evcharge(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, expose_value=False, help="Print the version."
        ),
    ] = False,
) -> None:
    """Runs a network of electric-vehicle charge points."""


def _run(program: Callable[[asyncio.Event], Awaitable[int]], end_within_s: float | None = None) -> None:
    raise typer.Exit(run_until_signal(program, end_within_s))


def _trace(path: Path | None, log: FilteringBoundLogger) -> Trace | None:
    return Trace(path, log) if path is not None else None


def _backoff(first_s: float, longest_s: float) -> Backoff:
    if longest_s < first_s:
        raise UsageError(f"--reconnect-max ({longest_s:g} s) is less than --reconnect-min ({first_s:g} s)")
    return Backoff(first_s, longest_s)


def _kafka(address: str, config: Path | None, topic_prefix: str = "") -> KafkaAccess:
    return KafkaAccess(address, read_settings(config) if config is not None else {}, topic_prefix)


def _publisher(kafka: KafkaAccess, client_id: str, trace: Trace | None, log: FilteringBoundLogger) -> Publisher:
    """For an Engine: Kafka is one of its two ways, so that even a fatal error there ends nothing."""
    return Publisher(
        kafka,
        client_id,
        trace=trace,
        log=log,
        on_fatal=lambda reason: log.error("kafka_failed", cause=reason),
        linger_ms=5,
    )


@app.command()
def central(
    host: Annotated[str, options.option("--host", "Address to listen on for Monitors.")] = "0.0.0.0",
    port: Annotated[
        int, options.option("--port", "Port to listen on for Monitors; 0 takes a free one.", min=0, max=65535)
    ] = 5000,
    port_file: Annotated[
        Path | None, options.option("--port-file", "Write the port that was taken to this file.")
    ] = None,
    kafka: options.Kafka = "localhost:9092",
    kafka_config: options.KafkaConfig = None,
    topic_prefix: options.TopicPrefix = "",
    kafka_group: Annotated[
        str,
        options.option(
            "--kafka-group",
            "Where Kafka keeps how far this Central has read.",
            parser=options.parse_id,
            metavar="NAME",
        ),
    ] = "evcharge-central",
    db: options.Database = Path("evcharge.db"),
    partitions: Annotated[
        int, options.option("--partitions", "Partitions of each topic that Central creates.", min=1, max=10000)
    ] = 6,
    open_registration: Annotated[
        bool,
        options.option("--open-registration", "Admit charge points and drivers that nobody has added."),
    ] = False,
    tls_cert: Annotated[
        Path | None,
        options.option("--tls-cert", "Speak TLS with Monitors, and show this certificate (PEM).", metavar="FILE"),
    ] = None,
    tls_key: Annotated[
        Path | None,
        options.option("--tls-key", "The key of that certificate (PEM, without a passphrase).", metavar="FILE"),
    ] = None,
    tls_client_ca: Annotated[
        Path | None,
        options.option(
            "--tls-client-ca",
            "Admit only Monitors with a certificate that this one (PEM) has signed, and whose CN is their CP_ID.",
            metavar="FILE",
        ),
    ] = None,
    max_connections: Annotated[
        int, options.option("--max-connections", "Connections of Monitors, at most.", min=1, max=1_000_000)
    ] = 20_000,
    max_connections_per_address: Annotated[
        int,
        options.option(
            "--max-connections-per-address",
            "Of these from one address (IPv6: one /64 network), at most.",
            min=1,
            max=1_000_000,
        ),
    ] = 5_000,
    max_messages_per_second: Annotated[
        float,
        options.option(
            "--max-messages-per-second",
            "Of one connection, in the long run; whoever sends more is read more slowly.",
            min=1,
            max=1_000_000,
        ),
    ] = 100.0,
    heartbeat_timeout: Annotated[
        float, options.seconds("--heartbeat-timeout", "Silence after which a Monitor is given up")
    ] = 90.0,
    registration_timeout: Annotated[
        float, options.seconds("--registration-timeout", "Time that a new connection has to register")
    ] = 10.0,
    start_timeout: Annotated[
        float, options.seconds("--start-timeout", "Time that a charge point has to answer a start command")
    ] = 10.0,
    silent_session: Annotated[
        float, options.seconds("--silent-session", "Silence after which an open session is closed")
    ] = 3600.0,
    request_max_age: Annotated[
        float, options.seconds("--request-max-age", "Age from which a driver's request is refused")
    ] = 300.0,
    meter_value_interval: Annotated[
        float, options.seconds("--meter-value-interval", "Time between two readings that are stored")
    ] = 15.0,
    time_scale: options.TimeScale = 1.0,
    zone: Annotated[
        ZoneInfo | None,
        options.option(
            "--zone",
            "Time zone (IANA) of the days that money is booked on; the machine's, if it is not given.",
            parser=options.parse_zone,
            metavar="NAME",
        ),
    ] = None,
    max_price: Annotated[
        Decimal,
        options.option(
            "--max-price",
            "The most that a Monitor may ask for a kWh, in a currency with two digits (of another, as many of its"
            " smallest unit); `evcharge cp set` has it for each.",
            parser=options.parse_price,
            metavar="DECIMAL",
        ),
    ] = Decimal(10),
    max_power: Annotated[
        float,
        options.option(
            "--max-power", "The most power that a Monitor may register, in kW.", min=0.001, max=options.MAX_KW
        ),
    ] = 1000.0,
    max_session_energy: Annotated[
        float | None,
        options.option(
            "--max-session-energy",
            "The most energy of a charge, in kWh; `evcharge drivers set` has it for each driver.",
            min=0.001,
            max=options.MAX_KWH,
        ),
    ] = None,
    max_session_cost: Annotated[
        Decimal | None,
        options.option(
            "--max-session-cost",
            "The most that a charge may cost, as --max-price.",
            parser=options.parse_cost,
            metavar="DECIMAL",
        ),
    ] = None,
    max_session_hours: Annotated[
        float | None,
        options.option(
            "--max-session-hours",
            "Hours from its request after which a charge is stopped.",
            min=0.0001,
            max=options.MAX_HOURS,
        ),
    ] = None,
    trace: options.Trace = None,
    http: Annotated[
        str,
        options.option(
            "--http",
            "Address of the operators' interface (HTTP), or off; port 0 takes a free one.",
            parser=options.parse_http,
            metavar="HOST:PORT|off",
        ),
    ] = "127.0.0.1:8080",
    http_tls_cert: Annotated[
        Path | None,
        options.option(
            "--http-tls-cert", "Speak HTTPS with operators, and show this certificate (PEM).", metavar="FILE"
        ),
    ] = None,
    http_tls_key: Annotated[
        Path | None,
        options.option(
            "--http-tls-key", "The key of that certificate (PEM, without a passphrase).", metavar="FILE"
        ),
    ] = None,
    http_port_file: Annotated[
        Path | None, options.option("--http-port-file", "Write the port that HTTP was given to this file.")
    ] = None,
    headless: options.Headless = False,
    log_level: options.LogLevel = "info",
) -> None:
    """Central: governs the charge points, answers the drivers, keeps the books; takes an operator's commands."""
    from evcharge.central.console import AdminCLI
    from evcharge.central.desk import Desk
    from evcharge.central.service import Central, CentralConfig

    events = EventLog()
    log = make_log("central", log_level, events if is_full_screen(headless) else None)
    config = CentralConfig(
        host=host,
        port=port,
        kafka=_kafka(kafka, kafka_config, topic_prefix),
        kafka_group=kafka_group,
        database=db,
        partitions=partitions,
        policy=Policy(
            registration_timeout_s=registration_timeout,
            heartbeat_timeout_s=heartbeat_timeout,
            start_timeout_s=start_timeout,
            silent_session_s=silent_session,
            request_max_age_s=request_max_age,
            meter_value_interval_s=meter_value_interval,
            time_scale=time_scale,
            open_registration=open_registration,
            max_price_per_kwh=max_price,
            max_power_w=round(max_power * 1000),
            limits=Limits(
                round(max_session_energy * 1000) if max_session_energy is not None else None,
                max_session_cost,
                max_session_hours,
            ),
        ),
        http=options.http_address(http),
        tls=tls.server_context(tls_cert, tls_key, tls_client_ca),
        http_tls=tls.server_context(http_tls_cert, http_tls_key, options="--http-tls"),
        max_connections=_connections_allowed(max_connections, log),
        max_connections_per_address=max_connections_per_address,
        max_messages_per_s=max_messages_per_second,
        zone=zone or _machine_zone(log),
    )

    async def program(stop: asyncio.Event) -> int:
        ready: asyncio.Future[Desk] = asyncio.get_running_loop().create_future()

        def announce(port: int, http_port: int | None, desk: Desk) -> None:
            _announce("central", port, port_file)
            if http_port is not None:
                _announce("operators' interface", http_port, http_port_file)
            ready.set_result(desk)

        async def console() -> None:
            desk = (await ready).acting_as(me("console"))
            admin = AdminCLI(desk, events, title="AdminCLI   EV_Central", quit_help="stop this Central")
            await admin.attend(stop)

        served = Central(config, log, _trace(trace, log)).run(stop, announce)
        await beside(served, None if headless else console())
        return 0

    _run(program, SERVICE_ENDS_WITHIN_S)


def _machine_zone(log: FilteringBoundLogger) -> ZoneInfo:
    found = machine_zone()
    if found is None:
        reason = "this machine's time zone has no IANA name, so money is booked on days of UTC; --zone chooses"
        log.warning("zone_unknown", reason=reason)
    return found or ZoneInfo("UTC")


def _connections_allowed(wanted: int, log: FilteringBoundLogger) -> int:
    """As many as were wanted, or as the machine lets us have open."""
    files = allow_open_files(wanted + OTHER_FILES)
    allowed = max(1, files - OTHER_FILES)
    if allowed < wanted:
        reason = f"the machine allows {files} open files (ulimit -Hn), so there can be {allowed} connections"
        log.warning("open_files_limited", wanted=wanted, reason=reason)
    return min(wanted, allowed)


def _announce(program: str, port: int, port_file: Path | None) -> None:
    """Say which port was taken; whoever reads the file finds it whole."""
    typer.echo(f"{program} listens on port {port}")
    if port_file is None:
        return
    draft = port_file.with_name(port_file.name + ".tmp")
    try:
        draft.write_text(f"{port}\n")
        draft.rename(port_file)
    except OSError as problem:
        raise UsageError(f"the port file {port_file} cannot be written: {problem.strerror}") from None


@app.command()
def monitor(
    cp_id: options.CpIdArgument,
    engine: Annotated[
        Address,
        options.option(
            "--engine", "Address of this charge point's Engine.", parser=options.parse_address, metavar="HOST:PORT"
        ),
    ],
    central: options.Central = Address("localhost", 5000),  # noqa: B008
    key: Annotated[
        str,
        options.option(
            "--key",
            "The key that `evcharge cp add` printed; better in EVCHARGE_KEY, where no list of processes shows it.",
            show_default=False,
            parser=options.parse_secret,
            metavar="KEY",
        ),
    ] = "",
    location: Annotated[
        str,
        options.option(
            "--location", "Where the charge point stands, for people.", parser=options.parse_text, metavar="TEXT"
        ),
    ] = "",
    price: options.Price = Decimal("0.30"),
    currency: options.Currency = "EUR",
    max_power: options.MaxPowerKw = 22.0,
    heartbeat_interval: options.HeartbeatInterval = 30.0,
    health_interval: options.HealthInterval = 30.0,
    health_timeout: options.HealthTimeout = 90.0,
    on_central_loss: Annotated[
        str,
        options.option(
            "--on-central-loss",
            "What a charge does when Central is lost: continue or stop.",
            parser=lambda text: _one_of(text, "continue", "stop"),
            metavar="continue|stop",
        ),
    ] = "continue",
    tls_ca: options.TlsCa = None,
    tls_cert: Annotated[
        Path | None,
        options.option(
            "--tls-cert",
            "Show Central this certificate (PEM), whose CN is the CP_ID.",
            metavar="FILE",
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        options.option("--tls-key", "The key of that certificate (PEM, without a passphrase).", metavar="FILE"),
    ] = None,
    reconnect_min: options.ReconnectMin = 1.0,
    reconnect_max: options.ReconnectMax = 30.0,
    headless: options.Headless = False,
    trace: options.Trace = None,
    log_level: options.LogLevel = "info",
) -> None:
    """Monitor of a charge point: stands between Central and the Engine, watches both, reports faults."""
    events = EventLog()
    log = make_log("monitor", log_level, events if is_full_screen(headless) else None).bind(cp_id=cp_id)
    config = MonitorConfig(
        cp_id=cp_id,
        key=key,
        location=location or cp_id,
        price_per_kwh=price,
        currency=currency,
        max_power_w=round(max_power * 1000),
        heartbeat_interval_s=heartbeat_interval,
        health_interval_s=health_interval,
        health_timeout_s=health_timeout,
        stop_on_central_loss=on_central_loss == "stop",
    )

    async def program(stop: asyncio.Event) -> int:
        backoff = _backoff(reconnect_min, reconnect_max)
        attention = clock.Attention()
        security = tls.client_context(tls_ca, tls_cert, tls_key)
        served = Monitor(config, central, engine, backoff, log, _trace(trace, log), attention, security)
        front = None if headless else MonitorCLI(served, events).front
        await attended(first_of(served.run(stop), attention.keep()), front, stop)
        return 0

    _run(program, SERVICE_ENDS_WITHIN_S)


def _one_of(text: str, *choices: str) -> str:
    if text not in choices:
        raise typer.BadParameter(f"expected {' or '.join(choices)}, not {text!a}")
    return text


def _vehicle(
    battery_kwh: float,
    soc_percent: float,
    power_kw: float | None,
    current: Current,
    losses_percent: float | None,
) -> Battery:
    capacity_wh = battery_kwh * 1000
    return Battery(
        capacity_wh,
        capacity_wh * soc_percent / 100,
        VEHICLE_W[current] if power_kw is None else power_kw * 1000,
        current,
        LOSSES[current] if losses_percent is None else losses_percent / 100,
    )


@app.command()
def engine(
    host: Annotated[str, options.option("--host", "Address to listen on for the Monitor.")] = "127.0.0.1",
    port: Annotated[
        int, options.option("--port", "Port to listen on for the Monitor; 0 takes a free one.", min=0, max=65535)
    ] = 0,
    port_file: Annotated[
        Path | None, options.option("--port-file", "Write the port that was taken to this file.")
    ] = None,
    kafka: options.Kafka = "localhost:9092",
    kafka_config: options.KafkaConfig = None,
    topic_prefix: options.TopicPrefix = "",
    journal: options.Journal = Path("evcharge-journal"),
    max_power: options.MaxPowerKw = 22.0,
    battery: options.BatteryKwh = 60.0,
    soc: options.SocPercent = 20.0,
    vehicle_power: options.VehiclePowerKw = None,
    current: options.ChargingCurrent = None,
    losses: options.LossesPercent = None,
    time_scale: options.TimeScale = 1.0,
    data_interval: options.ReadingInterval = 1.0,
    repeat_interval: Annotated[
        float,
        options.seconds("--repeat-interval", "Time until a completion without a receipt is repeated"),
    ] = 10.0,
    manual_plug: Annotated[
        bool,
        options.option("--manual-plug", "A charge waits until a vehicle is plugged in, with the command `plug`."),
    ] = False,
    plug_timeout: Annotated[
        float, options.seconds("--plug-timeout", "Time that a charge waits for its vehicle, with --manual-plug")
    ] = PLUG_TIMEOUT_S,
    headless: options.Headless = False,
    trace: options.Trace = None,
    log_level: options.LogLevel = "info",
) -> None:
    """Engine of a charge point: charges (a simulated vehicle), meters, and takes commands on stdin (`help`)."""
    events = EventLog()
    log = make_log("engine", log_level, events if is_full_screen(headless) else None)
    config = EngineConfig(
        host=host,
        port=port,
        journal=journal,
        charger=ChargerConfig(
            max_power_w=round(max_power * 1000),
            vehicle=_vehicle(battery, soc, vehicle_power, current or current_of(max_power * 1000), losses),
            time_scale=time_scale,
            reading_interval_s=data_interval,
            repeat_interval_s=repeat_interval,
            manual_plug=manual_plug,
            plug_timeout_s=plug_timeout,
        ),
    )

    async def program(stop: asyncio.Event) -> int:
        tracer = _trace(trace, log)
        publisher = _publisher(_kafka(kafka, kafka_config, topic_prefix), "evcharge-engine", tracer, log)
        try:
            served = Engine(config, publisher, log, tracer)
            front = None if headless else EngineCLI(served, events).front
            await attended(served.run(stop, lambda taken: _announce("engine", taken, port_file)), front, stop)
        finally:
            await asyncio.to_thread(publisher.close)
        return 0

    _run(program, SERVICE_ENDS_WITHIN_S)


@app.command()
def admin(
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="[COMMAND…]", help="One command, such as `list`; without it, the console."),
    ] = None,
    url: Annotated[
        str, options.option("--url", "Address of Central's operators' interface.", metavar="URL")
    ] = "http://127.0.0.1:8080",
    token: Annotated[
        str,
        options.option(
            "--token",
            "The token that `evcharge token add` printed; better in EVCHARGE_TOKEN, where no list of processes"
            " shows it.",
            show_default=False,
            parser=options.parse_secret,
            metavar="TOKEN",
        ),
    ] = "",
    tls_ca: options.TlsCa = None,
) -> None:
    """Central's console from elsewhere: AdminCLI over HTTP, full screen, as lines, or for one command."""
    from evcharge.central.client import DeskClient
    from evcharge.central.console import AdminCLI

    async def program(stop: asyncio.Event) -> int:
        if not token:
            raise UsageError(
                "no token; set EVCHARGE_TOKEN to what `evcharge token add NAME --role operator` printed"
            )
        if tls_ca is not None and not url.startswith("https://"):
            raise UsageError(f"--tls-ca is for a --url that begins with https://, not {url!a}")
        async with DeskClient(url, token, tls.client_context(tls_ca, None, None)) as desk:
            console = AdminCLI(desk, EventLog(), title=f"AdminCLI   {url}", quit_help="leave")

            async def work() -> int:
                if command:
                    say(await console.commands.run(shlex.join(command)))
                else:
                    await desk.totals()  # if this is refused, so is all else
                    await console.attend(stop)
                return 0

            return await _until(stop, work())

    _run(program)


@app.command()
def fleet(
    count: Annotated[int, options.option("--count", "How many charge points.", min=1, max=100_000)],
    prefix: Annotated[
        str,
        options.option("--prefix", "What their ids begin with.", parser=options.parse_id, metavar="TEXT"),
    ] = "CP",
    central: options.Central = Address("localhost", 5000),  # noqa: B008
    kafka: options.Kafka = "localhost:9092",
    kafka_config: options.KafkaConfig = None,
    topic_prefix: options.TopicPrefix = "",
    keys: Annotated[
        Path | None, options.option("--keys", "File with the charge points' keys: a line each, `CP_ID KEY`.")
    ] = None,
    journal: options.Journal = Path("evcharge-journal"),
    price: options.Price = Decimal("0.30"),
    currency: options.Currency = "EUR",
    max_power: options.MaxPowerKw = 22.0,
    battery: options.BatteryKwh = 60.0,
    soc: options.SocPercent = 20.0,
    vehicle_power: options.VehiclePowerKw = None,
    current: options.ChargingCurrent = None,
    losses: options.LossesPercent = None,
    time_scale: options.TimeScale = 1.0,
    data_interval: options.ReadingInterval = 1.0,
    heartbeat_interval: options.HeartbeatInterval = 30.0,
    health_interval: options.HealthInterval = 30.0,
    health_timeout: options.HealthTimeout = 90.0,
    tls_ca: options.TlsCa = None,
    reconnect_min: options.ReconnectMin = 1.0,
    reconnect_max: options.ReconnectMax = 30.0,
    trace: options.Trace = None,
    log_level: options.LogLevel = "warning",
) -> None:
    """A fleet of charge points in one process, a Monitor and an Engine each, with their real sockets."""
    log = make_log("fleet", log_level)

    async def program(stop: asyncio.Event) -> int:
        config = FleetConfig(
            central=central,
            journal=journal,
            price_per_kwh=price,
            currency=currency,
            max_power_w=round(max_power * 1000),
            vehicle=_vehicle(battery, soc, vehicle_power, current or current_of(max_power * 1000), losses),
            time_scale=time_scale,
            keys=_read_keys(keys) if keys is not None else {},
            backoff=_backoff(reconnect_min, reconnect_max),
            reading_interval_s=data_interval,
            heartbeat_interval_s=heartbeat_interval,
            health_interval_s=health_interval,
            health_timeout_s=health_timeout,
            tls=tls.client_context(tls_ca, None, None),
        )
        tracer = _trace(trace, log)
        publisher = _publisher(_kafka(kafka, kafka_config, topic_prefix), "evcharge-fleet", tracer, log)
        wanted_files = count * FILES_OF_A_CHARGE_POINT + OTHER_FILES
        files = allow_open_files(wanted_files)
        if files < wanted_files:
            enough_for = max(0, files - OTHER_FILES) // FILES_OF_A_CHARGE_POINT
            reason = f"the machine allows {files} open files (ulimit -Hn), enough for {enough_for} charge points"
            log.warning("open_files_limited", wanted=wanted_files, reason=reason)
        typer.echo(f"{count} charge points for Central at {central.host}:{central.port}")
        try:
            await Fleet(fleet_ids(prefix, count), config, publisher, log, tracer).run(stop)
        finally:
            await asyncio.to_thread(publisher.close)
        return 0

    _run(program, SERVICE_ENDS_WITHIN_S)


def _read_keys(path: Path) -> dict[str, str]:
    keys = {}
    for number, line in enumerate(lines_of(path, "the keys"), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2 or not is_id(words[0]):
            raise UsageError(f"{path}, line {number}: expected 'CP_ID KEY'")
        keys[words[0]] = words[1]
    return keys


@app.command()
def driver(
    driver_id: options.DriverIdArgument,
    command: Annotated[
        str | None,
        typer.Argument(
            metavar="[list|charge|status|stop|history]",
            help="What to do; without it, a console.",
        ),
    ] = None,
    cp_id: Annotated[
        str | None, typer.Argument(metavar="[CP_ID]", help="Where to charge.", parser=options.parse_id)
    ] = None,
    energy: Annotated[
        str | None,
        options.option("--energy", "Charge this many kWh; without it, until the battery is full.", metavar="KWH"),
    ] = None,
    wait: Annotated[bool, options.option("--wait", "Follow the charge to its receipt.")] = False,
    all_points: Annotated[bool, options.option("--all", "List the charge points that are not free, too.")] = False,
    limit: Annotated[int, options.option("--limit", "How many past charges to show.", min=1, max=10_000)] = 20,
    file: Annotated[
        Path | None,
        options.option("--file", "Charge at each charge point of this file (a line each, `CP_ID [KWH]`)."),
    ] = None,
    json: options.Json = False,
    timeout: options.Timeout = 30.0,
    key: Annotated[
        str,
        options.option(
            "--key",
            "The key that `evcharge drivers add` printed; better in EVCHARGE_KEY, where no list of processes"
            " shows it.",
            show_default=False,
            parser=options.parse_secret,
            metavar="KEY",
        ),
    ] = "",
    kafka: options.Kafka = "localhost:9092",
    kafka_config: options.KafkaConfig = None,
    topic_prefix: options.TopicPrefix = "",
    trace: options.Trace = None,
    log_level: options.LogLevel = "warning",
) -> None:
    """Driver: list charge points, charge, follow, stop, and look back."""
    events = EventLog()
    log = make_log("driver", log_level, events if command is None and file is None and is_full_screen() else None)
    show: Callable[[str], None] = (lambda text: None) if json else say

    async def act(driver: Driver, wishes: answers.Wishes, stop: asyncio.Event) -> Outcome | None:
        if wishes:
            return await answers.charge_all(driver, wishes, show)
        match command:
            case None:
                await DriverCLI(driver, events).run(stop)
                return None
            case "list":
                return await answers.list_charge_points(driver, all_points)
            case "charge":
                assert cp_id is not None
                energy_wh = energy_wh_of(energy) if energy is not None else None
                return await answers.charge(driver, cp_id, energy_wh, wait, show)
            case "status":
                return await answers.status(driver)
            case "stop":
                return await answers.stop_and_see(driver)
            case _:
                return await answers.history(driver, limit)

    async def program(stop: asyncio.Event) -> int:
        _check_driver_command(command, cp_id, file)
        if energy is not None:
            energy_wh_of(energy)
        wishes = answers.read_wishes(file) if file is not None else []
        access = _kafka(kafka, kafka_config, topic_prefix)
        link = DriverLink(
            access, f"evcharge-driver-{driver_id}", timeout_s=timeout, log=log, trace=_trace(trace, log)
        )

        async def work() -> int:
            async with link.opened([driver_id]):
                outcome = await act(Driver(driver_id, link, key), wishes, stop)
            if outcome is None:
                return 0
            say(answers.as_json(outcome.data) if json else outcome.text)
            return 0 if outcome.ok else EXIT_FAILED

        return await _until(stop, work())

    _run(program)


def _check_driver_command(command: str | None, cp_id: str | None, file: Path | None) -> None:
    names = ("list", "charge", "status", "stop", "history")
    if command not in (None, *names):
        raise UsageError(f"there is no command {command!a}; the commands are {', '.join(names)}")
    if command == "charge" and cp_id is None:
        raise UsageError("charge needs the id of a charge point: charge CP_ID")
    if file is not None and command is not None:
        raise UsageError("--file is a command of its own; leave the other out")


async def _until(stop: asyncio.Event, work: Awaitable[int]) -> int:
    """What `work` returns, or 0 if `stop` comes first, which cancels it."""
    task = asyncio.ensure_future(work)
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
        return 0
    return task.result()


@app.command()
def demo(
    sessions: Annotated[
        int | None,
        options.option("--sessions", "End after this many charges; without it, at Ctrl-C.", min=1, max=10_000),
    ] = None,
    kafka: Annotated[
        str | None,
        options.option(
            "--kafka",
            "Address of a real Kafka; without it, an embedded trial broker, in memory, for the demo alone.",
            parser=options.parse_kafka,
            metavar="HOST:PORT",
        ),
    ] = None,
    kafka_config: options.KafkaConfig = None,
    time_scale: options.TimeScale = 60.0,
    json: Annotated[bool, options.option("--json", "No screen, but one JSON summary; needs --sessions.")] = False,
    log_level: options.LogLevel = "error",
) -> None:
    """A small network at work: Central, three charge points and two drivers, as real processes."""
    log = make_log("demo", log_level)

    async def program(stop: asyncio.Event) -> int:
        if json and sessions is None:
            raise UsageError("--json needs --sessions N, or there would be no end to sum up")
        if kafka is None and kafka_config is not None:
            raise UsageError("--kafka-config needs --kafka: the trial broker takes whoever comes")
        access = _kafka(kafka, kafka_config) if kafka is not None else None
        shown = Demo(access, kafka_config, time_scale, log)
        summary: list[dict[str, Any]] = []

        async def work(folder: Path) -> int:
            async with shown.running(folder) as started:

                async def drive() -> None:
                    summary.extend(await shown.drive(started, sessions))

                await first_of(drive(), started.watch())
            return 0

        on_terminal = sys.stdout.isatty() and not json
        if not on_terminal and not json:
            shown.view.on_event = say
        screen = Live(shown.view, refresh_per_second=4) if on_terminal else nullcontext()
        with tempfile.TemporaryDirectory(prefix="evcharge-demo-") as folder, screen:
            await _until(stop, work(Path(folder)))
        if json:
            typer.echo(answers.as_json({"kafka": shown.view.kafka, "sessions": summary}))
        completed = sum(1 for session in summary if session["completed"])
        return 0 if sessions is None or completed == sessions else EXIT_FAILED

    code = run_until_signal(program)
    # Ctrl-C is how a demo without an end is meant to end.
    raise typer.Exit(0 if sessions is None and code == EXIT_INTERRUPTED else code)


@app.command()
def replay(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.csv", help="Sessions, as docs/operations.md describes them.")
    ],
    speed: Annotated[
        float, options.option("--speed", "Seconds of the file that pass in a real one.", min=0.001, max=1e9)
    ] = 200_000.0,
    limit: Annotated[
        int | None, options.option("--limit", "Only the first so many rows.", min=1, max=10**9)
    ] = None,
    strict: Annotated[
        bool, options.option("--strict", "Exit code 1 also if a row was skipped; all others are replayed.")
    ] = False,
    kafka: options.Kafka = "localhost:9092",
    kafka_config: options.KafkaConfig = None,
    topic_prefix: options.TopicPrefix = "",
    central: Annotated[
        Address | None,
        options.option(
            "--central",
            "Address of a Central that runs with --open-registration; without it, replay starts its own.",
            parser=options.parse_address,
            metavar="HOST:PORT",
        ),
    ] = None,
    json: options.Json = False,
    trace: options.Trace = None,
    log_level: options.LogLevel = "error",
) -> None:
    """Replay real charging sessions through the real system, and compare the bills to the Wh."""
    log = make_log("replay", log_level)

    async def program(stop: asyncio.Event) -> int:
        sessions = read_sessions(file, limit)
        rows, skipped = sessions.rows, sessions.skipped
        if not rows:
            first = f": line {skipped[0].line}: {skipped[0].reason}" if skipped else ""
            more = f"; and {len(skipped) - 1:,} more lines" if len(skipped) > 1 else ""
            raise UsageError(f"{file} has no session that makes sense{first}{more}")
        plan = plan_of(rows, speed)
        say(announcement(file, sessions, plan, speed), err=json)
        with (
            tempfile.TemporaryDirectory(prefix="evcharge-replay-") as folder,
            progress_bar(len(rows), json) as advance,
        ):
            config = ReplayConfig(
                kafka=_kafka(kafka, kafka_config, topic_prefix),
                kafka_config=kafka_config,
                central=central,
                speed=speed,
                folder=Path(folder),
            )
            replay = Replay(rows, config, log, _trace(trace, log), advance)

            def tell(interrupted: bool) -> dict[str, Any]:
                figures = report(sessions, plan, replay.tally, replay.wall_s, interrupted=interrupted)
                say(answers.as_json(figures) if json else text_of(figures))
                return figures

            async def work() -> int:
                await replay.run()
                return 0

            try:
                await _until(stop, work())
            except EvchargeError:
                if replay.tally.begun:
                    tell(interrupted=True)
                raise
        figures = tell(interrupted=stop.is_set())
        failed = figures["differences"] or figures["failed"] or (strict and skipped)
        return EXIT_FAILED if failed else 0

    _run(program)


@app.command()
def backup(file: options.BackupFile, db: options.Database = Path("evcharge.db")) -> None:
    """Copy the database to a new file, whole and checked, while Central works on it or not."""
    from evcharge.storage.backup import back_up

    target = named(file)
    say(f"backed up to {target}: {back_up(db, target, me(), clock.now().utc)}")
    typer.echo("It holds the drivers' keys: only its owner may read it; keep copies of it so.", err=True)


@app.command()
def restore(file: options.BackupFile, db: options.Database = Path("evcharge.db")) -> None:
    """Put a copy of a backup in the place of the database, which is kept beside it. No Central may run on it."""
    from evcharge.storage.backup import restore as put_back

    source = named(file)
    contents, aside = put_back(source, db, me(), clock.now().utc)
    say(f"restored from {source}: {contents}")
    if aside is not None:
        say(f"what was there is kept: {aside}", err=True)


def command_line() -> Any:
    """All commands: flags are shown as flags, `-h` is help, and each of the programs tells its version."""
    root: Any = get_command(app)
    (version,) = (option for option in root.params if option.name == "version")
    for name in PROGRAMS.values():
        root.commands[name].params.append(version)
    _dress(root)
    return root


def _dress(command: Any) -> None:
    command.context_settings["help_option_names"] = ["--help", "-h"]
    context = command.context_class(command, **command.context_settings)
    for option in command.get_params(context):
        if getattr(option, "is_flag", False):
            option.metavar = ""  # or Typer says that it wants a `<bool>`
    for below in getattr(command, "commands", {}).values():
        _dress(below)


def _main(program: str, name: str | None = None) -> None:
    """Run the command line, or the one sub-command of that name under a name of its own.

    An error that we foresaw is one sentence on stderr, and an exit code.
    """
    open_standard_streams()
    command = command_line()
    try:
        (command if name is None else command.commands[name])(sys.argv[1:], prog_name=program)
    except EvchargeError as error:
        say(f"{program}: {answers.explained(error)}", err=True)
        sys.exit(exit_code_of(error))


def main() -> None:
    _main("evcharge")


def ev_central() -> None:
    _main("EV_Central", PROGRAMS["EV_Central"])


def ec_cp_m() -> None:
    _main("EC_CP_M", PROGRAMS["EC_CP_M"])


def ev_cp_e() -> None:
    _main("EV_CP_E", PROGRAMS["EV_CP_E"])


def ev_driver() -> None:
    _main("EV_Driver", PROGRAMS["EV_Driver"])
