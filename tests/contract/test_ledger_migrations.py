"""Up and down between any two revisions, with data in every table, on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from postgres_server import PostgresServer
from sqlalchemy import Boolean, Connection, Integer, LargeBinary, MetaData, Table, insert, select

from cu_market.ledger.database import Database
from cu_market.ledger.errors import LedgerError
from cu_market.ledger.location import parse_url
from cu_market.ledger.migrate import bring_up_to_date, move_to, revisions
from cu_market.ledger.schema import HEAD, METADATA, VERSION
from cu_market.ledger.sql import open_ledger

KINDS = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]

Rows = Mapping[str, Sequence[Mapping[str, Any]]]


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without tables."""
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    opened = Database(parse_url(url))
    yield opened
    opened.close()


def tables(connection: Connection, database: Database) -> dict[str, Table]:
    """Returns the tables as the database says that they are, without Alembic's own."""
    found = MetaData()
    found.reflect(connection, schema=database.dialect.schema)
    return {t.name: t for t in found.sorted_tables if t.name != VERSION.name}


def value_of(column: Any, number: int) -> object:
    """Returns a value that fits the column, told apart by the number."""
    if isinstance(column.type, Boolean):
        return bool(number % 2)
    if isinstance(column.type, Integer):
        return number
    if isinstance(column.type, LargeBinary):
        return bytes([number])
    return "{}" if column.name == "report" else f"{column.name}-{number}"


def fill(database: Database) -> None:
    """Writes two rows more into every table."""

    def write(connection: Connection) -> None:
        for table in tables(connection, database).values():
            rows = [{c.name: value_of(c, n) for c in table.columns} for n in (101, 102)]
            connection.execute(insert(table), rows)

    database.write(write)


def content(database: Database) -> Rows:
    """Returns every row of every table, sorted."""

    def read(connection: Connection) -> Rows:
        return {
            name: sorted((dict(row._mapping) for row in connection.execute(select(table))), key=str)
            for name, table in tables(connection, database).items()
        }

    return database.read(read)


def in_common(rows: Rows, shape: Rows) -> Rows:
    """Returns what of the rows has a place in the shape of others."""
    columns = {name: set(found[0]) if found else set() for name, found in shape.items()}
    return {
        name: sorted(
            ({k: v for k, v in row.items() if k in columns[name]} for row in found), key=str
        )
        for name, found in rows.items()
        if name in columns
    }


STARTS = revisions()


@pytest.mark.parametrize("start", STARTS)
def test_data_of_every_revision_survives_the_way_up_and_back(
    database: Database, start: str
) -> None:
    move_to(database, start)
    fill(database)
    before = content(database)
    assert all(before.values())
    bring_up_to_date(database)
    at_head = content(database)
    assert in_common(at_head, before) == in_common(before, at_head)
    move_to(database, start)
    after = content(database)
    assert in_common(after, at_head) == in_common(before, at_head)
    assert {name: set(rows[0]) for name, rows in after.items()} == {
        name: set(rows[0]) for name, rows in before.items()
    }
    bring_up_to_date(database)
    assert in_common(content(database), before) == in_common(before, at_head)


def test_down_to_nothing_and_up_again(database: Database) -> None:
    bring_up_to_date(database)
    fill(database)
    move_to(database, "base")
    assert content(database) == {}
    bring_up_to_date(database)
    with open_ledger(database.url.render_as_string(hide_password=False)) as ledger:
        assert ledger.allocations() == []


def test_the_migrations_make_the_tables_that_the_code_uses(database: Database) -> None:
    bring_up_to_date(database)
    options = {
        "version_table": VERSION.name,
        "compare_type": True,
        "include_schemas": database.dialect.schema is not None,
        "include_name": lambda name, kind, _: kind != "schema" or name == database.dialect.schema,
    }
    wanted = METADATA
    if database.dialect.schema is not None:
        wanted = MetaData()
        for table in METADATA.tables.values():
            table.to_metadata(wanted, schema=database.dialect.schema)
    differences = database.read(
        lambda c: compare_metadata(MigrationContext.configure(c, opts=options), wanted)
    )
    # Alembic leaves its own version table out of the comparison on one side only.
    assert [d for d in differences if getattr(d[1], "name", None) != VERSION.name] == []


def test_a_failing_migration_leaves_what_was(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring_up_to_date(database)
    fill(database)
    before = content(database)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("mid-way")

    import alembic.op

    dropped = []
    drop = alembic.op.drop_table

    def drop_some(name: str, **options: Any) -> None:
        dropped.append(name)
        if len(dropped) == 4:
            fail()
        drop(name, **options)

    monkeypatch.setattr(alembic.op, "drop_table", drop_some)
    with pytest.raises(RuntimeError, match="mid-way"):
        move_to(database, "base")
    monkeypatch.undo()
    assert len(dropped) == 4
    assert content(database) == before
    bring_up_to_date(database)
    assert content(database) == before


def test_an_unknown_revision_is_refused_and_known_ones_are_named(database: Database) -> None:
    bring_up_to_date(database)
    with pytest.raises(LedgerError, match=rf"'9999'.*does not know \(it knows .*{HEAD}"):
        move_to(database, "9999")


@pytest.mark.postgres
def test_other_tables_of_the_same_database_are_left_alone(postgres_url: str) -> None:
    """Dagster's own tables, Alembic's version table among them, live in the public schema."""
    database = Database(parse_url(postgres_url))
    for statement in (
        "CREATE TABLE public.alembic_version (version_num text)",
        "INSERT INTO public.alembic_version VALUES ('of Dagster')",
        "CREATE TABLE public.runs (id int)",
        "CREATE TABLE public.allocations (id int)",
    ):
        database.write(lambda c, s=statement: c.exec_driver_sql(s))
    bring_up_to_date(database)
    move_to(database, "base")
    read = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
    names = database.read(lambda c: [str(row[0]) for row in c.exec_driver_sql(read)])
    assert names == ["alembic_version", "allocations", "runs"]
    database.close()


@pytest.mark.postgres
@pytest.mark.parametrize("made_by", ["itself", "an administrator"])
def test_a_user_with_the_rights_that_the_page_names_is_enough(
    postgres: PostgresServer, made_by: str
) -> None:
    name = postgres.create_database()
    user = f"least_{name}"
    postgres.execute(f"CREATE ROLE {user} LOGIN PASSWORD 'its own'")
    if made_by == "itself":
        postgres.execute(f"GRANT CREATE ON DATABASE {name} TO {user}")
    else:
        postgres.execute(f"CREATE SCHEMA cu_market AUTHORIZATION {user}", database=name)
    url = parse_url(postgres.url(name)).set(username=user, password="its own")
    with open_ledger(url.render_as_string(hide_password=False)) as ledger:
        assert ledger.allocations() == []
    postgres.drop_database(name)
    postgres.execute(f"DROP ROLE {user}")


@pytest.mark.postgres
def test_a_user_who_may_not_is_told_what_to_ask_for(postgres: PostgresServer) -> None:
    name = postgres.create_database()
    postgres.execute("CREATE ROLE nobody LOGIN PASSWORD 'its own'")
    url = parse_url(postgres.url(name)).set(username="nobody", password="its own")
    with pytest.raises(LedgerError, match=r"permission denied.*may use schema cu_market"):
        open_ledger(url.render_as_string(hide_password=False))
    postgres.drop_database(name)
    postgres.execute("DROP ROLE nobody")
