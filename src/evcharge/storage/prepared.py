"""Statements that Central runs all the time: compiled by SQLAlchemy once, then run by the driver alone.

For each row SQLAlchemy needs ten times as long as the database, for each transaction a third of a commit.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Self

from sqlalchemy import Column, Dialect, Select, bindparam, select
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler

Converter = Callable[[Any], Any]


class ManyRows:
    """A statement for any number of rows; the types of the columns convert the values, column by column."""

    def __init__(self, statement: ClauseElement, dialect: Dialect) -> None:
        compiled = _compiled(statement, dialect)
        self._sql = str(compiled)
        self._parameters = [
            (name, compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect))
            for name in compiled.positiontup or ()
        ]
        if not self._parameters:
            # Where the driver wants them by name there would be none, and each row would be written as nothing.
            raise ValueError(f"this statement has no parameters by position: {self._sql}")

    def execute(self, cursor: DBAPICursor, columns: Mapping[str, Sequence[Any]]) -> int:
        """`columns`: of each parameter of the statement its values, one a row. How many rows it has changed."""
        values = (
            map(convert, columns[name]) if convert is not None else columns[name]
            for name, convert in self._parameters
        )
        cursor.executemany(self._sql, list(zip(*values, strict=True)))
        return int(cursor.rowcount)


class Lookup:
    """The rows that a query with one parameter finds."""

    def __init__(self, query: Select[Any], dialect: Dialect) -> None:
        compiled = _compiled(query, dialect)
        self._sql = str(compiled)
        name = (compiled.positiontup or [""])[0]
        self._convert_key = compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect) or _as_it_is
        self._columns: list[tuple[str, Converter]] = [
            (column.name, column.type.dialect_impl(dialect).result_processor(dialect, None) or _as_it_is)
            for column in query.selected_columns
        ]

    @classmethod
    def of_key(cls, key: Column[Any], dialect: Dialect) -> Self:
        """The rows of its table that have a certain key."""
        return cls(select(key.table).where(key == bindparam("key")), dialect)

    def rows(self, cursor: DBAPICursor, keys: Collection[Any]) -> Iterator[dict[str, Any]]:
        """Those that are there, each by the names of its columns."""
        for key in keys:
            cursor.execute(self._sql, (self._convert_key(key),))
            for row in cursor.fetchall():
                pairs = zip(self._columns, row, strict=True)
                yield {name: convert(value) for (name, convert), value in pairs}


def _compiled(statement: ClauseElement, dialect: Dialect) -> SQLCompiler:
    compiled = statement.compile(dialect=dialect)
    assert isinstance(compiled, SQLCompiler)
    return compiled


def _as_it_is(value: Any) -> Any:
    return value
