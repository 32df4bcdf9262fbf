"""The options that the sub-commands share. Each can come from the environment: `--db` from `EVCHARGE_DB`."""

import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from evcharge.domain.battery import Current
from evcharge.protocol import messages
from evcharge.protocol.currencies import is_currency
from evcharge.protocol.messages import MAX_PRICE_PER_KWH, PRICE_DECIMALS, check_limit, check_price, fits, is_id
from evcharge.protocol.notation import is_plain, plain_decimal
from evcharge.transport.tcp import Address
from evcharge.zones import zone_called

MAX_KW = 100_000.0
MAX_KWH = 1_000_000.0
MAX_HOURS = 8760.0


def option(flag: str, help: str, **settings: Any) -> Any:
    """A Typer option that can also be set as `EVCHARGE_` and the flag's name."""
    name = flag.removeprefix("--").split("/")[0].replace("-", "_").upper()
    return typer.Option(flag, help=help, envvar=f"EVCHARGE_{name}", **settings)


def parse_address(text: str | Address) -> Address:
    if isinstance(text, Address):  # Typer passes defaults through the parser, too
        return text
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdecimal()) or not 0 < int(port) < 65536:
        raise typer.BadParameter(f"expected HOST:PORT, not {text!a}")
    return Address(host, int(port))


def parse_kafka(text: str) -> str:
    for part in text.split(","):
        parse_address(part.strip())
    return text


def parse_topic_prefix(text: str) -> str:
    if not re.fullmatch("[A-Za-z0-9._-]{0,200}", text):
        raise typer.BadParameter(f"expected at most 200 letters, digits or . _ -, not {text[:60]!a}")
    return text


def parse_id(text: str) -> str:
    if not is_id(text):
        raise typer.BadParameter(f"{text!a} {messages.NO_ID}")
    return text


def parse_price(text: str | Decimal) -> Decimal:
    if isinstance(text, Decimal):  # Typer passes defaults through the parser, too
        return text
    try:
        price = plain_decimal(text)
        check_price(price)
    except ValueError:
        raise typer.BadParameter(
            f"expected a price from 0 to {MAX_PRICE_PER_KWH} in plain notation, such as 0.30, of at most"
            f" {PRICE_DECIMALS} decimals, not {text!a}"
        ) from None
    return price


def parse_cost(text: str) -> Decimal:
    try:
        cost = plain_decimal(text)
        check_limit(cost)
    except ValueError:
        raise typer.BadParameter(
            f"expected an amount of at most two decimals such as 30.00, not {text!a}"
        ) from None
    return cost


def parse_kw(text: str) -> int:
    """In W."""
    return round(_number(text, "a power in kW", 0.001, MAX_KW) * 1000)


def parse_kwh(text: str) -> int:
    """In Wh."""
    return round(_number(text, "an energy in kWh", 0.001, MAX_KWH) * 1000)


def parse_hours(text: str) -> float:
    return _number(text, "a number of hours", 0.0001, MAX_HOURS)


def _number(text: str, what: str, least: float, most: float) -> float:
    value = float(text) if is_plain(text) else float("nan")
    if not least <= value <= most:
        raise typer.BadParameter(f"expected {what} from {least:g} to {most:g}, not {text!a}")
    return value


def parse_currency(text: str) -> str:
    if not is_currency(text):
        raise typer.BadParameter(f"expected a currency of ISO 4217 such as EUR, not {text[:12]!a}")
    return text


def parse_zone(text: str | ZoneInfo) -> ZoneInfo:
    zone = text if isinstance(text, ZoneInfo) else zone_called(text)
    if zone is None:
        raise typer.BadParameter(f"expected a time zone's name (IANA) such as Europe/Berlin, not {text!a}")
    return zone


def parse_text(text: str) -> str:
    if not fits(text, messages.Text) or not text.isprintable():
        raise typer.BadParameter(
            f"expected at most {messages.MAX_TEXT} characters, none of them a control character, not {text[:60]!a}"
        )
    return text


def parse_secret(text: str) -> str:
    """A key or a token. What is wrong with it is told without it."""
    if re.fullmatch("[!-~]{0,500}", text) is None:
        raise typer.BadParameter(
            "no key looks like this: it has a space, a line end or another character that none has; if it came"
            " from a file, take these off (`tr -d '\\r\\n '`). It is not shown here"
        )
    return text


def _parse_level(text: str) -> str:
    if text not in ("debug", "info", "warning", "error"):
        raise typer.BadParameter(f"expected debug, info, warning or error, not {text!a}")
    return text


def parse_http(text: str) -> str:
    if text != "off":
        http_address(text)
    return text


def http_address(text: str) -> Address | None:
    """Where HTTP listens; port 0 is a free one."""
    if text == "off":
        return None
    host, _, port = text.rpartition(":")
    if port == "0" and host:
        return Address(host.removeprefix("[").removesuffix("]"), 0)
    return parse_address(text)


CpIdArgument = Annotated[str, typer.Argument(parser=parse_id, metavar="CP_ID", help="The charge point's id.")]
DriverIdArgument = Annotated[str, typer.Argument(parser=parse_id, metavar="DRIVER_ID", help="The driver's id.")]

TokenName = Annotated[str, typer.Argument(parser=parse_id, metavar="NAME", help="Whose token it is.")]

Kafka = Annotated[
    str,
    option(
        "--kafka",
        "Address of Apache Kafka; several, with commas, for a cluster.",
        parser=parse_kafka,
        metavar="HOST:PORT",
    ),
]
KafkaConfig = Annotated[
    Path | None,
    option(
        "--kafka-config", "File of more settings for the Kafka client (librdkafka): a line each, `name=value`."
    ),
]
TopicPrefix = Annotated[
    str,
    option(
        "--topic-prefix",
        "What the names of the topics begin with, where one Kafka serves several networks.",
        show_default=False,
        parser=parse_topic_prefix,
        metavar="TEXT",
    ),
]
Central = Annotated[Address, option("--central", "Address of Central.", parser=parse_address, metavar="HOST:PORT")]
Database = Annotated[Path, option("--db", "The database file; made if it does not exist.")]
BackupFile = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")]
Trace = Annotated[
    Path | None, option("--trace", "Append each message that crosses a wire to this file, a JSON line each.")
]
LogLevel = Annotated[
    str, option("--log-level", "debug, info, warning or error.", parser=_parse_level, metavar="LEVEL")
]
Headless = Annotated[bool, option("--headless", "No console: neither a screen nor commands on stdin.")]
Price = Annotated[
    Decimal, option("--price", "Price of a kWh, in --currency.", parser=parse_price, metavar="DECIMAL")
]
Currency = Annotated[
    str, option("--currency", "Currency of the price (ISO 4217).", parser=parse_currency, metavar="CODE")
]
MaxPowerKw = Annotated[
    float, option("--max-power", "The most power that the charge point gives, in kW.", min=0.1, max=2000.0)
]
BatteryKwh = Annotated[float, option("--battery", "The simulated vehicle's battery, in kWh.", min=0.1, max=1000.0)]
SocPercent = Annotated[
    float, option("--soc", "The vehicle's state of charge when it comes, in percent.", min=0.0, max=100.0)
]
VehiclePowerKw = Annotated[
    float | None,
    option(
        "--vehicle-power",
        "The most power that the vehicle takes, in kW; without it, 11 with AC, and with DC a peak of 120.",
        min=0.1,
        max=2000.0,
    ),
]
ChargingCurrent = Annotated[
    Current | None,
    option(
        "--current",
        "What the charger gives, ac or dc; without it, dc if that is more than 43 kW.",
        metavar="ac|dc",
    ),
]
LossesPercent = Annotated[
    float | None,
    option(
        "--losses",
        "What is lost between meter and battery, in percent of the meter; without it, 10 with AC, 5 with DC.",
        min=0.0,
        max=90.0,
    ),
]
TimeScale = Annotated[
    float, option("--time-scale", "Simulated seconds that pass in a real one.", min=0.001, max=1e9)
]
ReadingInterval = Annotated[
    float, option("--data-interval", "Real seconds between two readings of the meter.", min=0.05, max=3600.0)
]
Journal = Annotated[Path, option("--journal", "Folder for what a charge point must not forget in a power cut.")]
ReconnectMin = Annotated[
    float, option("--reconnect-min", "Seconds before the first attempt to reconnect.", min=0.01, max=3600.0)
]
ReconnectMax = Annotated[
    float, option("--reconnect-max", "Seconds between two attempts at the most.", min=0.01, max=3600.0)
]
TlsCa = Annotated[
    Path | None,
    option("--tls-ca", "Use TLS to Central, and trust whom this certificate (PEM) has signed.", metavar="FILE"),
]
Json = Annotated[bool, option("--json", "Print the result as JSON.")]
Timeout = Annotated[float, option("--timeout", "Seconds to wait for Central's answer.", min=0.1, max=3600.0)]


def seconds(flag: str, help: str) -> Any:
    return option(flag, f"{help}, in seconds.", min=0.05, max=86400.0 * 7)


HeartbeatInterval = Annotated[float, seconds("--heartbeat-interval", "Time between two heartbeats")]
HealthInterval = Annotated[float, seconds("--health-interval", "Time between two checks of the Engine")]
HealthTimeout = Annotated[float, seconds("--health-timeout", "Silence after which the Engine is given up")]
