"""A statement for very many rows. SQLAlchemy needs ten times as long for their values as the database for all."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Dialect
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import SQLCompiler


class ManyRows:
    """Compiled once; the values are converted as the types of the columns say, but column by column."""

    def __init__(self, statement: ClauseElement, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)
        self._sql = str(compiled)
        self._parameters = [
            (name, compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect))
            for name in compiled.positiontup or ()
        ]

    def execute(self, connection: Connection, columns: Mapping[str, Sequence[Any]]) -> None:
        """`columns`: of each parameter of the statement its values, one a row."""
        values = (
            map(convert, columns[name]) if convert is not None else columns[name]
            for name, convert in self._parameters
        )
        connection.exec_driver_sql(self._sql, list(zip(*values, strict=True)))
