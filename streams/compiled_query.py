"""Queries of the hottest requests, whose SQL the ORM compiles once in place of at each call.

Compiling such a query takes the ORM five to twenty times as long as the database takes to answer.
The ORM still writes the SQL, for the database at hand, and its converters make the values. Every
use of this module is listed in tests/integration/test_compiled_queries.py, which compares each
with the ORM's own rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Expression, F, Field, Func, IntegerField, QuerySet

Row = tuple[Any, ...]
Converter = Callable[[Any, Any, BaseDatabaseWrapper], Any]


class Parameter(Expression):
    """Stands in a compiled query for a value that each call gives by this name."""

    def __init__(self, name: str, field: Field[Any, Any]) -> None:
        super().__init__(output_field=field)
        self.name = name

    def as_sql(self, compiler: Any, connection: BaseDatabaseWrapper) -> tuple[str, tuple[Any, ...]]:
        return "%s", (self,)

    def prepare(self, value: Any, connection: BaseDatabaseWrapper) -> Any:
        """The value as the database's driver takes it."""
        return self.output_field.get_db_prep_value(value, connection)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Compiled:
    alias: str  # of the database
    sql: str
    parameters: list[Any]  # of the SQL: each a `Parameter`, or a constant
    converters: list[tuple[int, Any, list[Converter]]]  # of a column: its number, its expression


class CompiledQuery:
    """A query of one row, or several queries of one value each, which become one statement.

    `queries` are called once, when the first row is asked for. Each returns a `values_list()` with
    a `Parameter` for each value that differs between calls.
    """

    def __init__(self, *queries: Callable[[], QuerySet[Any, Any]]) -> None:
        self._queries = queries
        self._compiled: _Compiled | None = None

    def row(self, **values: Any) -> Row | None:
        """The first row with these values of the parameters; None if there is none."""
        compiled = self._compiled = self._compiled or _compile([make() for make in self._queries])
        connection = connections[compiled.alias]
        parameters = [
            each.prepare(values[each.name], connection) if isinstance(each, Parameter) else each
            for each in compiled.parameters
        ]
        with connection.cursor() as cursor:
            cursor.execute(compiled.sql, parameters)
            found = cursor.fetchone()
        if found is None:
            return None
        row = list(found)
        for column, expression, converters in compiled.converters:
            for convert in converters:
                row[column] = convert(row[column], expression, connection)
        return tuple(row)

    def value(self, **values: Any) -> Any:
        """The first column of `row`; None if there is no row."""
        row = self.row(**values)
        return row[0] if row else None


def count(rows: QuerySet[Any, Any]) -> QuerySet[Any, Any]:
    """A query of one value: how many rows there are."""
    counted = Func(F("pk"), function="COUNT", output_field=IntegerField())
    value: QuerySet[Any, Any] = rows.order_by().annotate(_count=counted).values_list("_count")
    return value


def _compile(queries: list[QuerySet[Any, Any]]) -> _Compiled:
    alias = queries[0].db
    texts: list[str] = []
    parameters: list[Any] = []
    expressions: list[Any] = []
    for query in queries:
        compiler = query.query.get_compiler(alias)
        text, given = compiler.as_sql()
        texts.append(text)
        parameters += given
        expressions += [expression for expression, *_ in compiler.select]
    # Of several queries, each is one value of the one row.
    sql = texts[0] if len(texts) == 1 else "SELECT " + ", ".join(f"({text})" for text in texts)
    converters = compiler.get_converters(expressions)
    return _Compiled(
        alias=alias,
        sql=sql,
        parameters=parameters,
        converters=[(column, each, functions) for column, (functions, each) in converters.items()],
    )
