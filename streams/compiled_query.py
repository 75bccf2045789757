"""Queries and updates of every POST and every run, whose SQL the ORM compiles once.

Compiling such a statement takes the ORM five to twenty times as long as the database takes to
answer. The ORM still writes the SQL, for the database at hand, and its converters make the values.
Every use of this module is listed in tests/integration/test_compiled_queries.py. The tests compare
the rows of each use with those of the ORM.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Expression, F, Field, Func, IntegerField, Model, QuerySet
from django.db.models.sql import InsertQuery, UpdateQuery

Row = tuple[Any, ...]
Converter = Callable[[Any, Any, BaseDatabaseWrapper], Any]


class Parameter(Expression):
    """A placeholder in a compiled query. Each call gives its value by this name."""

    def __init__(self, name: str, field: Field[Any, Any]) -> None:
        super().__init__(output_field=field)
        self.name = name

    def as_sql(self, compiler: Any, connection: BaseDatabaseWrapper) -> tuple[str, tuple[Any, ...]]:
        return "%s", (self,)

    def prepare(self, value: Any, connection: BaseDatabaseWrapper) -> Any:
        """The value in the form that the database's driver accepts."""
        return self.output_field.get_db_prep_save(value, connection)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Compiled:
    alias: str  # of the database
    sql: str
    parameters: list[Any]  # of the SQL: each a `Parameter`, or a constant
    converters: list[tuple[int, Any, list[Converter]]]  # of a column with this number, expression

    def run(self, values: dict[str, Any]) -> tuple[list[Row], int]:
        """The converted rows, and the number of rows that the statement found or changed."""
        connection = connections[self.alias]
        parameters = [
            each.prepare(values[each.name], connection) if isinstance(each, Parameter) else each
            for each in self.parameters
        ]
        with connection.cursor() as cursor:
            cursor.execute(self.sql, parameters)
            found = cursor.fetchall() if cursor.description else []
            changed = cursor.rowcount
        return [self._convert(row, connection) for row in found], changed

    def _convert(self, found: Row, connection: BaseDatabaseWrapper) -> Row:
        row = list(found)
        for column, expression, converters in self.converters:
            for convert in converters:
                row[column] = convert(row[column], expression, connection)
        return tuple(row)


class CompiledQuery:
    """A query, or several queries of one value each, which become one statement.

    `queries` are called once, at the first use. Each returns a `values_list()` with a `Parameter`
    for each value that differs between calls.
    """

    def __init__(self, *queries: Callable[[], QuerySet[Any, Any]]) -> None:
        self._queries = queries
        self._compiled: _Compiled | None = None

    def rows(self, **values: Any) -> list[Row]:
        """The rows with these values of the parameters."""
        compiled = self._compiled = self._compiled or _compile([make() for make in self._queries])
        return compiled.run(values)[0]

    def row(self, **values: Any) -> Row | None:
        """The first row with these values of the parameters; None if there is none."""
        rows = self.rows(**values)
        return rows[0] if rows else None

    def value(self, **values: Any) -> Any:
        """The first column of `row`; None if there is no row."""
        row = self.row(**values)
        return row[0] if row else None


class CompiledUpdate:
    """A `QuerySet.update`, which also returns columns of the changed row.

    `rows` and `columns` are called once, at the first use. They hold a `Parameter` for each value
    that differs between calls.
    """

    def __init__(
        self,
        rows: Callable[[], QuerySet[Any, Any]],
        columns: Callable[[], dict[str, Any]],
        *,
        returning: Sequence[str] = (),
    ) -> None:
        self._rows = rows
        self._columns = columns
        self._returning = returning
        self._compiled: _Compiled | None = None

    def run(self, **values: Any) -> int:
        """Update the rows. Returns their number."""
        return self._run(values)[1]

    def row(self, **values: Any) -> Row | None:
        """Update a row. Returns the new values of its `returning` columns; None without a row."""
        rows, _ = self._run(values)
        return rows[0] if rows else None

    def _run(self, values: dict[str, Any]) -> tuple[list[Row], int]:
        if self._compiled is None:
            self._compiled = _compile_update(self._rows(), self._columns(), self._returning)
        return self._compiled.run(values)


class CompiledInsert:
    """Inserts rows of a model, as `save(force_insert=True)` does, but sends no signals.

    A field whose value is an expression has the same expression in each row.
    """

    def __init__(self, model: type[Model]) -> None:
        self._model = model
        self._compiled: dict[tuple[str, ...], _Compiled] = {}  # by fields that have expressions

    def insert(self, row: Model) -> None:
        """Insert the row, and set the values that the database chose."""
        fields = self._model._meta.concrete_fields
        values = {field.attname: field.pre_save(row, add=True) for field in fields}
        fixed = {name: value for name, value in values.items() if hasattr(value, "as_sql")}
        compiled = self._compiled.get(tuple(fixed))
        if compiled is None:
            compiled = self._compiled[tuple(fixed)] = _compile_insert(self._model, fixed)
        (chosen,), _ = compiled.run(values)
        for field, value in zip(_chosen_by_database(self._model), chosen, strict=True):
            setattr(row, field.attname, value)
        row._state.adding, row._state.db = False, compiled.alias


def count(rows: QuerySet[Any, Any]) -> QuerySet[Any, Any]:
    """A query of one value: the number of rows."""
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
    # Each of several queries gives one value of a single row.
    sql = texts[0] if len(texts) == 1 else "SELECT " + ", ".join(f"({text})" for text in texts)
    return _Compiled(
        alias=alias, sql=sql, parameters=parameters, converters=_converters(compiler, expressions)
    )


def _compile_update(
    rows: QuerySet[Any, Any], columns: dict[str, Any], returning: Sequence[str]
) -> _Compiled:
    query = cast("UpdateQuery", rows.order_by().query.chain(UpdateQuery))
    query.add_update_values(columns)
    compiler = query.get_compiler(rows.db)
    sql, parameters = compiler.as_sql()
    options = rows.model._meta
    returned = [options.get_field(name).get_col(options.db_table) for name in returning]
    if returned:  # both databases have RETURNING, but the ORM uses it only for inserts
        names = (compiler.quote_name_unless_alias(each.target.column) for each in returned)
        sql += f" RETURNING {', '.join(names)}"
    return _Compiled(
        alias=rows.db,
        sql=sql,
        parameters=list(parameters),
        converters=_converters(compiler, returned),
    )


def _compile_insert(model: type[Model], fixed: dict[str, Any]) -> _Compiled:
    fields = model._meta.concrete_fields
    row = model(**{f.attname: fixed.get(f.attname, Parameter(f.attname, f)) for f in fields})
    query = InsertQuery(model)
    query.insert_values(list(fields), [row])
    alias = router.db_for_write(model)
    compiler = query.get_compiler(alias)
    compiler.returning_fields = _chosen_by_database(model)
    ((sql, parameters),) = compiler.as_sql()
    returned = [field.get_col(model._meta.db_table) for field in compiler.returning_fields]
    return _Compiled(
        alias=alias,
        sql=sql,
        parameters=list(parameters),
        converters=_converters(compiler, returned),
    )


def _chosen_by_database(model: type[Model]) -> list[Field[Any, Any]]:
    return list(model._meta.db_returning_fields)


def _converters(compiler: Any, expressions: list[Any]) -> list[tuple[int, Any, list[Converter]]]:
    converters = compiler.get_converters(expressions)
    return [(column, each, functions) for column, (functions, each) in converters.items()]
