"""Who may import whom, as the design says; read from the source, so that a forbidden import need not even run."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import evcharge

ROOT = Path(evcharge.__file__).parent
PROGRAMS = ("central", "monitor", "engine", "driver")
NOT_PURE = {"time", "asyncio", "socket", "logging", "random", "threading", "os"}


@dataclass(frozen=True)
class Import:
    """`file`, below src/evcharge, imports `module`; `on_load`: as soon as it is itself imported."""

    file: str
    line: int
    module: str
    on_load: bool

    @property
    def package(self) -> str:
        return self.file.split("/")[0]

    def __str__(self) -> str:
        return f"src/evcharge/{self.file}:{self.line} imports {self.module}"


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def imports_of(file: str, source: str) -> Iterator[Import]:
    """What `file` imports, `from a import b` as `a.b`: b may be a module, and no rule minds if it is not."""

    def walk(node: ast.AST, on_load: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            match child:
                case ast.Import(names=names):
                    yield from (Import(file, child.lineno, name.name, on_load) for name in names)
                case ast.ImportFrom(module=module, names=names, level=level):
                    above = ["evcharge", *Path(file).parts][: -level or None] if level else []
                    base = ".".join([*above, *([module] if module else [])])
                    yield from (Import(file, child.lineno, f"{base}.{name.name}", on_load) for name in names)
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                    yield from walk(child, False)
                case _:
                    yield from walk(child, on_load)

    yield from walk(ast.parse(source), True)


def broken_rules(imports: list[Import]) -> list[str]:
    """A sentence for each import that the design forbids."""
    found = []

    def forbid(forbidden: bool, item: Import, why: str) -> None:
        if forbidden:
            found.append(f"{item}: {why}")

    for item in imports:
        module, package = item.module, item.package
        top = module.split(".")[0]
        if package in ("domain", "protocol"):
            own = within(module, "evcharge.domain", "evcharge.protocol", "evcharge.errors", "evcharge.limits")
            pure = own or top == "msgspec" or top in sys.stdlib_module_names
            a_table = package == "protocol" and top == "iso4217"  # of currencies
            why = "takes only the standard library, msgspec, evcharge.errors, evcharge.limits, domain and protocol"
            forbid(not (pure or a_table), item, f"{package} {why}")
        if package in ("domain", "protocol", "limits.py"):
            forbid(top in NOT_PURE, item, f"{package} is pure: no clock, no I/O, no threads, no chance, no log")
        if package == "transport":
            forbid(within(module, "evcharge.domain"), item, "transport knows nothing of charging")
        if package in PROGRAMS:
            others = [f"evcharge.{program}" for program in PROGRAMS if program != package]
            forbid(within(module, *others), item, "the programs meet on the wire, never in an import")
        if package == "console":
            programs = [f"evcharge.{program}" for program in PROGRAMS]
            forbid(within(module, *programs), item, "the shell serves all four programs, so it knows none")
        if package != "storage" and item.on_load:
            sql = within(module, "sqlalchemy") and not (
                item.file == "central/service.py" and within(module, "sqlalchemy.exc")
            )
            forbid(sql, item, "only storage speaks to the database; central/service.py may catch its exceptions")
    return found


def test_nobody_imports_what_it_must_not() -> None:
    files = sorted(ROOT.rglob("*.py"))
    imports = [
        item for path in files for item in imports_of(path.relative_to(ROOT).as_posix(), path.read_text("utf-8"))
    ]
    packages = {item.package for item in imports}
    assert packages >= {"domain", "protocol", "transport", "storage", "console", *PROGRAMS}, "files were not found"
    broken = broken_rules(imports)
    assert not broken, "\n" + "\n".join(broken)


@pytest.mark.parametrize(
    ("file", "source", "module"),
    [
        ("domain/network.py", "import structlog", "structlog"),
        ("domain/network.py", "from evcharge import clock", "evcharge.clock"),
        ("domain/network.py", "from ..storage import store", "evcharge.storage.store"),
        ("domain/battery.py", "from time import monotonic", "time.monotonic"),
        ("domain/deep/er.py", "from ... import clock", "evcharge.clock"),
        ("protocol/lines.py", "import asyncio", "asyncio"),
        ("limits.py", "import time", "time"),
        ("protocol/lines.py", "def f():\n    import os.path", "os.path"),
        ("protocol/messages.py", "from evcharge.transport.tcp import Link", "evcharge.transport.tcp.Link"),
        ("transport/tcp.py", "from evcharge.domain.instant import Instant", "evcharge.domain.instant.Instant"),
        ("transport/tcp.py", "from evcharge import domain", "evcharge.domain"),
        ("monitor/service.py", "from evcharge.engine.charger import Charger", "evcharge.engine.charger.Charger"),
        ("central/service.py", "def f():\n    from evcharge import driver", "evcharge.driver"),
        ("console/shell.py", "from evcharge.central import service", "evcharge.central.service"),
        ("central/service.py", "from sqlalchemy import select", "sqlalchemy.select"),
        ("cli.py", "if True:\n    import sqlalchemy", "sqlalchemy"),
    ],
)
def test_a_forbidden_import_is_found_and_named(file: str, source: str, module: str) -> None:
    broken = broken_rules(list(imports_of(file, source)))
    assert len(broken) == 1
    assert f"src/evcharge/{file}:" in broken[0]
    assert f" imports {module}: " in broken[0]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("domain/network.py", "import heapq, traceback\nfrom evcharge.protocol.topics import Topic"),
        ("domain/session.py", "from . import tariff\nfrom ..errors import IllegalTransition"),
        ("protocol/messages.py", "import msgspec\nfrom evcharge.domain.instant import Instant"),
        ("protocol/currencies.py", "from iso4217 import raw_xml"),
        ("transport/tcp.py", "import asyncio\nfrom evcharge import clock\nfrom evcharge.protocol import messages"),
        ("central/service.py", "from sqlalchemy.exc import OperationalError\nfrom evcharge.storage import store"),
        ("storage/store.py", "from sqlalchemy import select"),
        ("cli.py", "def f():\n    import sqlalchemy"),
        ("fleet.py", "from evcharge.engine.service import Engine\nfrom evcharge.monitor.service import Monitor"),
    ],
)
def test_an_allowed_import_is_allowed(file: str, source: str) -> None:
    assert broken_rules(list(imports_of(file, source))) == []
