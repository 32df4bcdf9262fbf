"""The commands `evcharge cp`, `drivers` and `token`: who is admitted, and how far. They work on the database."""

import getpass
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evcharge import clock, options
from evcharge.domain.ceilings import Ceilings
from evcharge.domain.charge_point import hash_key
from evcharge.domain.commands import Actor, Role
from evcharge.domain.driver import Limits
from evcharge.driver import answers
from evcharge.errors import UsageError
from evcharge.keys import new_key
from evcharge.protocol.messages import is_id
from evcharge.protocol.plain_text import one_line, printable
from evcharge.text_files import lines_of

if TYPE_CHECKING:
    from evcharge.storage.registry import Registry

# What needs the database is imported where it is used: it takes longer to load than a driver's command to run.

cp_app = typer.Typer(no_args_is_help=True, help="The charge points that Central admits.")
drivers_app = typer.Typer(no_args_is_help=True, help="The drivers that Central serves.")
token_app = typer.Typer(no_args_is_help=True, help="The operators' and viewers' access to Central over HTTP.")

DEFAULT = "default"
CEILINGS = ("ceiling_price_per_kwh", "ceiling_currency", "ceiling_power_w", "removed")
LIMITS = ("max_energy_wh", "max_cost", "max_hours", "signed_only")

CpIds = Annotated[
    list[str] | None,
    typer.Argument(
        parser=options.parse_id, metavar="[CP_ID…]", help="The charge points' ids.", show_default=False
    ),
]
CpIdsFile = Annotated[
    Path | None, options.option("--file", "Take the ids from this file, a line each; `#` begins a comment.")
]
DriverIds = Annotated[
    list[str],
    typer.Argument(parser=options.parse_id, metavar="DRIVER_ID…", help="The drivers' ids."),
]


def _ceiling(flag: str, help: str, parser: Any, metavar: str) -> Any:
    return options.option(
        flag,
        f"{help}; `default`: as Central has it for all.",
        parser=lambda text: text if text == DEFAULT else parser(text),
        metavar=metavar,
        show_default=False,
    )


MaxPrice = Annotated[
    Any, _ceiling("--max-price", "The most that its Monitor may ask for a kWh", options.parse_price, "DECIMAL")
]
Currency = Annotated[
    Any, _ceiling("--currency", "The currency that it has to be in", options.parse_currency, "CODE")
]
MaxPower = Annotated[
    Any,
    _ceiling("--max-power", "The most power that its Monitor may register, in kW", options.parse_kw, "KW"),
]
MaxEnergy = Annotated[
    Any, _ceiling("--max-energy", "The most energy of a charge, in kWh", options.parse_kwh, "KWH")
]
MaxCost = Annotated[Any, _ceiling("--max-cost", "The most that a charge may cost", options.parse_cost, "DECIMAL")]
MaxHours = Annotated[
    Any,
    _ceiling(
        "--max-hours", "Hours from its request after which a charge is stopped", options.parse_hours, "HOURS"
    ),
]
SignedOnly = Annotated[
    bool | None,
    options.option(
        "--signed-only/--no-signed-only",
        "Whether each charge has to be confirmed with the driver's key, also at a charge point.",
        show_default=False,
    ),
]


def say(text: str, err: bool = False) -> None:
    """For what may hold another's words; what is ours alone needs no care."""
    typer.echo(printable(text), err=err)


def me(via: str = "command line") -> Actor:
    """Whoever types commands here, for the audit."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container may run as a user that has no name
        name = f"uid {os.getuid()}"
    return Actor(name[:64], via)


def _registry(db: Path) -> "Registry":
    from evcharge.storage.database import open_database
    from evcharge.storage.registry import Registry

    return Registry(open_database(db))


def _stated(**values: Any) -> dict[str, Any]:
    """What was given, and None for the default."""
    return {name: None if value == DEFAULT else value for name, value in values.items() if value is not None}


def _ids(cp_ids: list[str] | None, file: Path | None) -> list[str]:
    """Each once, in the order in which they were named."""
    found = list(cp_ids or [])
    for number, line in enumerate(lines_of(file, "the ids") if file is not None else [], 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) > 1 or not is_id(words[0]):
            raise UsageError(f"{file}, line {number}: expected one CP_ID")
        found.append(words[0])
    if not found:
        raise UsageError("name at least one charge point, or a --file of them")
    return list(dict.fromkeys(found))


@cp_app.command("add")
def cp_add(
    cp_ids: CpIds = None,
    file: CpIdsFile = None,
    max_price: MaxPrice = None,
    currency: Currency = None,
    max_power: MaxPower = None,
    db: options.Database = Path("evcharge.db"),
) -> None:
    """Admit charge points, all or none; prints their keys, this once: of several `CP_ID KEY`, a line each."""
    keys = {cp_id: new_key() for cp_id in _ids(cp_ids, file)}
    ceilings = Ceilings(**_stated(price_per_kwh=max_price, currency=currency, power_w=max_power))
    hashes = {cp_id: hash_key(key) for cp_id, key in keys.items()}
    _registry(db).add_charge_points(hashes, me(), clock.now().utc, ceilings)
    if len(keys) == 1:
        ((cp_id, key),) = keys.items()
        typer.echo(key)
        typer.echo(f"This is the key of {cp_id}; it is not stored and cannot be shown again.", err=True)
        return
    for cp_id, key in keys.items():
        typer.echo(f"{cp_id} {key}")
    typer.echo("These are their keys; they are not stored and cannot be shown again.", err=True)


@cp_app.command("set")
def cp_set(
    cp_ids: CpIds = None,
    file: CpIdsFile = None,
    everywhere: Annotated[bool, options.option("--all", "All charge points.")] = False,
    max_price: MaxPrice = None,
    currency: Currency = None,
    max_power: MaxPower = None,
    db: options.Database = Path("evcharge.db"),
) -> None:
    """Set the most that the Monitors of these charge points may register."""
    changes = _stated(price_per_kwh=max_price, currency=currency, power_w=max_power)
    if not changes:
        raise UsageError("say what to set: --max-price, --currency or --max-power")
    if everywhere and (cp_ids or file is not None):
        raise UsageError("--all is all of them; name none beside it")
    chosen = None if everywhere else _ids(cp_ids, file)
    _say_changed(_registry(db).set_ceilings(chosen, changes, me(), clock.now().utc))


@cp_app.command("list")
def cp_list(db: options.Database = Path("evcharge.db"), json: options.Json = False) -> None:
    """The charge points, with what they last registered, and what they may register at the most."""
    from evcharge.storage.store import Store

    store = Store(db)
    charging = {session.cp_id for session in store.open_sessions()}
    rows: list[dict[str, object]] = [
        {
            "cp_id": cp.cp_id,
            "location": cp.location,
            "price_per_kwh": _text_of(cp.known_price_per_kwh),
            "currency": cp.currency,
            "max_power_w": cp.max_power_w,
            "status": cp.status,
            "out_of_service": cp.out_of_service,
            "has_key": cp.key_hash is not None,
            "ceiling_price_per_kwh": _text_of(cp.ceiling_price_per_kwh),
            "ceiling_currency": cp.ceiling_currency,
            "ceiling_power_w": cp.ceiling_power_w,
            "removed": cp.removed,
        }
        for cp in store.charge_points()
        if not cp.removed or cp.cp_id in charging
    ]
    _print_rows(rows, json, "no charge point has been added", CEILINGS)


@cp_app.command("remove")
def cp_remove(cp_id: options.CpIdArgument, db: options.Database = Path("evcharge.db")) -> None:
    """Refuse a charge point from now on, or from the end of its session; its history stays."""
    _registry(db).remove_charge_point(cp_id, me(), clock.now().utc)
    typer.echo(f"removed: {cp_id}")


@drivers_app.command("add")
def drivers_add(
    driver_id: options.DriverIdArgument,
    max_energy: MaxEnergy = None,
    max_cost: MaxCost = None,
    max_hours: MaxHours = None,
    signed_only: SignedOnly = None,
    db: options.Database = Path("evcharge.db"),
) -> None:
    """Serve a driver; prints its key, this once."""
    key = new_key()
    limits = Limits(**_stated(energy_wh=max_energy, cost=max_cost, hours=max_hours))
    _registry(db).add_driver(driver_id, key, me(), clock.now().utc, limits, bool(signed_only))
    typer.echo(key)
    typer.echo(f"This is the key of {driver_id}, which it signs with; it cannot be shown again.", err=True)


@drivers_app.command("set")
def drivers_set(
    driver_ids: DriverIds,
    max_energy: MaxEnergy = None,
    max_cost: MaxCost = None,
    max_hours: MaxHours = None,
    signed_only: SignedOnly = None,
    db: options.Database = Path("evcharge.db"),
) -> None:
    """Set the most that a charge of these drivers may come to; it holds for those that begin from now on."""
    changes = _stated(energy_wh=max_energy, cost=max_cost, hours=max_hours, signed_only=signed_only)
    if not changes:
        raise UsageError("say what to set: --max-energy, --max-cost, --max-hours or --signed-only")
    for driver in _registry(db).set_drivers(dict.fromkeys(driver_ids), changes, me(), clock.now().utc):
        typer.echo(f"set: {driver.driver_id}")


@drivers_app.command("list")
def drivers_list(db: options.Database = Path("evcharge.db"), json: options.Json = False) -> None:
    """The drivers, since when they are served, and what a charge of theirs may come to at the most."""
    rows: list[dict[str, object]] = [
        {
            "driver_id": row.driver_id,
            "added_at": row.added_at.isoformat(timespec="seconds"),
            "has_key": row.has_key,
            "max_energy_wh": row.limits.energy_wh,
            "max_cost": _text_of(row.limits.cost),
            "max_hours": row.limits.hours,
            "signed_only": row.signed_only,
        }
        for row in _registry(db).drivers()
    ]
    _print_rows(rows, json, "no driver has been added", LIMITS)


@drivers_app.command("remove")
def drivers_remove(driver_id: options.DriverIdArgument, db: options.Database = Path("evcharge.db")) -> None:
    """Let a driver begin nothing from now on; what runs can be ended, the history stays."""
    _registry(db).remove_driver(driver_id, me(), clock.now().utc)
    typer.echo(f"removed: {driver_id}")


@token_app.command("add")
def token_add(
    name: options.TokenName,
    role: Annotated[
        Role, options.option("--role", "What it allows: to look, or also to change.", metavar="viewer|operator")
    ],
    db: options.Database = Path("evcharge.db"),
) -> None:
    """Give an operator or a viewer access to Central's HTTP interface; prints the token, this once."""
    token = new_key()
    _registry(db).add_token(name, role, hash_key(token), me(), clock.now().utc)
    typer.echo(token)
    typer.echo(f"This is the token {name} ({role}); it is not stored and cannot be shown again.", err=True)


@token_app.command("list")
def token_list(db: options.Database = Path("evcharge.db"), json: options.Json = False) -> None:
    """The tokens by their names, with their roles."""
    rows: list[dict[str, object]] = [
        {"name": token.name, "role": token.role, "added_at": token.added_at.isoformat(timespec="seconds")}
        for token in _registry(db).tokens()
    ]
    _print_rows(rows, json, "no token has been added")


@token_app.command("remove")
def token_remove(name: options.TokenName, db: options.Database = Path("evcharge.db")) -> None:
    """Refuse this token from now on."""
    _registry(db).remove_token(name, me(), clock.now().utc)
    typer.echo(f"removed: {name}")


def _text_of(value: object) -> str | None:
    return None if value is None else str(value)


def _say_changed(ids: Iterable[str]) -> None:
    changed = list(ids)
    for cp_id in changed:
        typer.echo(f"set: {cp_id}")
    if not changed:
        typer.echo("it was so already")


def _print_rows(rows: list[dict[str, object]], json: bool, none: str, settings: tuple[str, ...] = ()) -> None:
    """As lines they leave out those settings that are not set."""
    if json:
        typer.echo(answers.as_json(rows))
    elif not rows:
        typer.echo(none)
    else:
        for row in rows:
            shown = {name: value for name, value in row.items() if value or name not in settings}
            told = {
                name: "not known yet" if value is None else one_line(str(value)) for name, value in shown.items()
            }
            say("  ".join(f"{name}={value}" for name, value in told.items()))
