import json
import pickle
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect, text

from glorasearch.db import Database, ProcessIdentity, RunState, RunStore, TrialStorage
from glorasearch.db.models import Base
from glorasearch.db.schema import HEAD, MIGRATIONS, VERSION_TABLE, upgrade
from glorasearch.errors import DatabaseError, InputError, SchemaTooNewError


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/test.db"


def test_sqlite_runs_in_wal_mode_with_foreign_keys(url: str) -> None:
    with Database(url).read() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 1


def test_the_migrations_make_the_tables_of_the_models(empty_url: str) -> None:
    engine = create_engine(empty_url)
    with engine.begin() as connection:
        upgrade(connection, "0006")
    with engine.begin() as connection:
        upgrade(connection)
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, Base.metadata) == []
        migrated = names_of(connection)
        Base.metadata.drop_all(connection)
        Base.metadata.create_all(connection)
        assert names_of(connection) == migrated
    engine.dispose()


def names_of(connection: Connection) -> dict[str, list[object]]:
    """Table → its columns, and the names of its constraints."""
    found = inspect(connection)
    return {
        table: [
            [(column["name"], column["nullable"]) for column in found.get_columns(table)],
            found.get_pk_constraint(table)["name"],
            sorted(str(key["name"]) for key in found.get_foreign_keys(table)),
            sorted(str(key["name"]) for key in found.get_unique_constraints(table)),
        ]
        for table in Base.metadata.tables
    }


def test_head_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_a_newer_schema_is_refused_and_left_alone(database_url: str) -> None:
    with Database(database_url).write() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0999'"))
    for read_only in (False, True):
        with pytest.raises(SchemaTooNewError, match=f"schema 0999, written by a newer glorasearch.*up to {HEAD}"):
            Database(database_url, read_only=read_only)


def test_tables_with_our_names_that_no_glorasearch_made_are_refused(empty_url: str) -> None:
    engine = create_engine(empty_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE glorasearch_runs (id INTEGER)"))
    engine.dispose()
    with pytest.raises(
        DatabaseError, match=r"tables of another program \(glorasearch_runs\); give glorasearch a database"
    ):
        Database(empty_url)


def open_at_once(urls: list[str], processes: int) -> None:
    """Have processes open each of the databases at the same moment, once all have imported what it takes."""
    code = (
        "import sys; from glorasearch.db import Database; import alembic.command\n"
        f"for url in {urls!r}: print(flush=True); sys.stdin.readline(); Database(url)"
    )
    pipe = subprocess.PIPE
    starting = [
        subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe) for _ in range(processes)
    ]
    for _ in urls:
        for process in starting:
            assert process.stdout is not None
            process.stdout.readline()
        for process in starting:
            assert process.stdin is not None
            if process.poll() is None:
                process.stdin.write(b"\n")
                process.stdin.flush()
    errors = [process.stderr.read() for process in starting if process.stderr is not None]
    assert [process.wait() for process in starting] == [0] * processes, errors


def test_processes_that_start_together_make_one_schema(empty_url: str, tmp_path: Path) -> None:
    """SQLite refuses at once, without its busy timeout, while another process switches the file to WAL."""
    sqlite = empty_url.startswith("sqlite")
    urls = [f"sqlite:///{tmp_path}/{number}.db" for number in range(4)] if sqlite else [empty_url]
    open_at_once(urls, 6)
    for url in urls:
        assert Database(url, read_only=True).read_only


def test_processes_that_start_together_upgrade_an_older_schema_once(empty_url: str) -> None:
    """Owners of runs become leases on the way."""
    engine = create_engine(empty_url)
    with engine.begin() as connection:
        upgrade(connection, "0002")
        connection.execute(
            text(
                "INSERT INTO runs (name, config, digest, state, created, updated, owner_host, owner_pid, owner_started)"
                " VALUES ('run', '{}', '', 'running', '2026-01-01', '2026-01-01', 'elsewhere', 7, 'then')"
            )
        )
    engine.dispose()
    open_at_once([empty_url], 3)
    run = RunStore(empty_url).get("run")
    assert run is not None
    assert (run.owner, run.state) == (ProcessIdentity("elsewhere", 7, "then"), RunState.INTERRUPTED)


def test_the_scores_of_trials_outlive_the_table_of_evaluations(empty_url: str) -> None:
    """And the images that a stopped trial saw are found under the name that they have now."""
    engine = create_engine(empty_url)
    attrs = {"running": "{}", "pruned": '{"bound":0.5,"seen":25,"note":"seen"}', "complete": '{"correct":3,"seen":25}'}
    with engine.begin() as connection:
        upgrade(connection, "0003")
        connection.execute(text("INSERT INTO studies (name, directions, trial_count) VALUES ('s', '[]', 3)"))
        insert = (
            "INSERT INTO trials (study_id, number, revision, state, objectives, user_attrs, system_attrs, intermediate,"
            " params) VALUES (1, :number, 0, :state, 'null', :attrs, '{}', '[]', '{}')"
        )
        for number, (state, text_of) in enumerate(attrs.items()):
            connection.execute(text(insert), {"number": number, "state": state, "attrs": text_of})
        connection.execute(
            text(
                "INSERT INTO evaluations (study_id, subnet_digest, trial_id, parameters, correct, total)"
                " VALUES (1, 'd', 2, 8, 1, 40)"
            )
        )
    engine.dispose()
    storage = TrialStorage(empty_url)
    assert [trial.user_attrs for trial in storage.get_all_trials(1)] == [
        {},
        {"bound": 0.5, "stopped_after": 25, "note": "seen"},
        {"correct": 3, "seen": 25},
    ]
    with storage.database.read() as connection:
        assert not inspect(connection).has_table("evaluations")
    storage.delete_study(1)
    storage.database.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("my.db", "is not a URL; write sqlite:///"),
        ("nosuch://host/name", "no driver for 'nosuch'"),
    ],
)
def test_a_url_that_cannot_be_used_is_the_users_error(url: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Database(url)


def test_a_password_is_never_shown() -> None:
    with pytest.raises(DatabaseError, match=r"postgresql\+psycopg://me:\*\*\*@127\.0\.0\.1:1/none") as caught:
        Database("postgresql://me:secret@127.0.0.1:1/none?connect_timeout=2", retry_seconds=0.2)
    assert "secret" not in str(caught.value)


def test_a_missing_folder_and_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the folder .*nowhere does not exist"):
        Database(f"sqlite:///{tmp_path}/nowhere/test.db")
    with pytest.raises(DatabaseError, match="there is no such file"):
        Database(f"sqlite:///{tmp_path}/test.db", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(DatabaseError, match=r"test\.db: file is not a database"):
        Database(f"sqlite:///{path}")


def test_an_empty_database_is_not_made_by_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    path.touch()
    with pytest.raises(DatabaseError, match="is not a glorasearch database"):
        Database(f"sqlite:///{path}", read_only=True)
    assert path.stat().st_size == 0


def test_read_only_refuses_writes_in_the_library_and_in_the_database(url: str) -> None:
    Database(url)
    database = Database(url, read_only=True)
    with pytest.raises(DatabaseError, match="opened read-only"):
        RunStore(database).create("run", {}, "digest")
    with pytest.raises(DatabaseError, match="readonly"), database.read() as connection:
        connection.execute(text("DELETE FROM glorasearch_runs"))


def test_a_failed_transaction_leaves_nothing(database_url: str) -> None:
    database = Database(database_url)
    insert = text("INSERT INTO glorasearch_studies (name, directions, trial_count) VALUES ('s', '[]', 0)")

    def fail() -> None:
        with database.write() as connection:
            connection.execute(insert)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM glorasearch_studies")).scalar() == 0


def test_another_connection_reads_while_one_writes(database_url: str) -> None:
    database = Database(database_url)
    with database.write() as writing, database.read() as reading:
        writing.execute(text("INSERT INTO glorasearch_studies (name, directions, trial_count) VALUES ('s', '[]', 0)"))
        assert reading.execute(text("SELECT count(*) FROM glorasearch_studies")).scalar() == 0


def test_pickling_opens_the_same_database(database_url: str) -> None:
    database = Database(database_url)
    RunStore(database).create("run", {}, "digest")
    assert RunStore(pickle.loads(pickle.dumps(database))).get("run") is not None
    with pytest.raises(TypeError, match="in-memory"):
        pickle.dumps(Database("sqlite://"))


def test_an_in_memory_database_is_one_for_all_its_users() -> None:
    database = Database("sqlite://")
    RunStore(database).create("run", {}, "digest")
    assert [run.name for run in RunStore(database).list()] == ["run"]


def test_the_package_needs_neither_torch_nor_the_data_plane() -> None:
    script = "import glorasearch.db, sys, json; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    loaded = set(json.loads(output))
    assert not loaded & {"torch", "timm", "ray", "alembic", "optuna_dashboard", "sklearn"}


def test_an_up_to_date_database_opens_without_alembic(url: str) -> None:
    TrialStorage(url)
    script = f"import glorasearch.db, sys; glorasearch.db.Database({url!r}); print('alembic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"


def test_the_file_is_plain_sqlite_with_plain_json(url: str, tmp_path: Path) -> None:
    storage = TrialStorage(url)
    storage.set_study_user_attr(storage.create_new_study([]), "key", {"a": [1, None]})
    storage.database.close()
    with sqlite3.connect(tmp_path / "test.db") as connection:
        found = connection.execute("SELECT json_extract(value, '$.a[0]') FROM glorasearch_study_attributes").fetchone()
        assert found == (1,)
