"""A search whose database server breaks off, at any moment and for real, makes the trials that it makes undisturbed."""

import itertools
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import make_url, text
from support.cutter import Cutter

from glorasearch.db import Database, RunStore, TrialStorage
from glorasearch.db.receipts import leave_receipt, was_committed
from glorasearch.errors import DatabaseError
from glorasearch.search import InProcessExecutor, SearchConfig, SearchDriver, SearchOutcome
from glorasearch.space import BoundSpace, EvaluationResult, EvaluationTask

CONFIG = SearchConfig(trials=24, population=8, parents=3, seed=4)

Evaluate = Callable[[EvaluationTask], EvaluationResult]

HOWS = ("before", "after", "blind")
"""A COMMIT does not reach the server; its answer does not reach the client; or the client does not wait for it."""


@pytest.fixture
def cutter(postgresql: Any) -> Iterator[Cutter]:
    cutter = Cutter(str(postgresql.socket))
    yield cutter
    cutter.close()


@pytest.fixture
def cut_url(cutter: Cutter, postgresql_url: str) -> str:
    """The URL of the test's database, through the proxy."""
    url = make_url(postgresql_url).set(host="127.0.0.1", port=cutter.port, query={})
    return str(url.update_query_dict({"sslmode": "disable", "gssencmode": "disable"}))


def run_search(url: str, space: BoundSpace, evaluate: Evaluate) -> SearchOutcome:
    database = Database(url)
    executor = InProcessExecutor(evaluate)
    outcome = SearchDriver(space, TrialStorage(database), executor, "weights", "study", CONFIG).run()
    database.close()
    return outcome


def contents(url: str) -> dict[str, Any]:
    """What a search left behind, without times."""
    storage = TrialStorage(url)
    trials = storage.get_all_trials(storage.get_study_id_from_name("study"), deepcopy=False)
    with storage.database.read() as connection:
        count = connection.execute(text("SELECT trial_count FROM glorasearch_studies")).scalar_one()
        rows = connection.execute(text("SELECT count(*) FROM glorasearch_trials")).scalar_one()
        leases = connection.execute(text("SELECT count(*) FROM glorasearch_leases")).scalar_one()
    storage.database.close()
    assert (count, rows) == (len(trials), len(trials))
    return {
        "trials": [(trial.number, trial.state, trial.params, trial.values, trial.user_attrs) for trial in trials],
        "leases": leases,
    }


@pytest.fixture
def space(space_maker: Callable[..., BoundSpace]) -> BoundSpace:
    return space_maker()


@pytest.fixture
def undisturbed(postgresql: Any, postgresql_template: str, space: BoundSpace, evaluator: Evaluate) -> dict[str, Any]:
    name = postgresql.new_database(postgresql_template)
    run_search(postgresql.url(name), space, evaluator)
    found = contents(postgresql.url(name))
    postgresql.drop(name)
    assert [number for number, *_ in found["trials"]] == list(range(CONFIG.trials))
    return found


def test_commits_whose_answers_are_lost(
    cutter: Cutter,
    cut_url: str,
    postgresql_url: str,
    space: BoundSpace,
    evaluator: Evaluate,
    undisturbed: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    generator = random.Random(0)
    cutter.choose_commit = lambda number: generator.choice(HOWS) if generator.random() < 0.3 else ""

    run_search(cut_url, space, evaluator)

    assert cutter.cuts >= 6
    assert contents(postgresql_url) == undisturbed
    said = [record.getMessage() for record in caplog.records]
    assert sum("the server is out of reach" in text for text in said) >= 3
    assert sum("continuing" in text and "back after" in text for text in said) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("how", [*HOWS, "message"])
@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_many_commits_and_other_messages_are_cut(
    seed: int,
    how: str,
    cutter: Cutter,
    cut_url: str,
    postgresql_url: str,
    space: BoundSpace,
    evaluator: Evaluate,
    undisturbed: dict[str, Any],
) -> None:
    generator = random.Random(seed)  # by chance, since a regular pattern may hit each repetition again
    if how == "message":
        cutter.choose_message = lambda number: number > 40 and generator.random() < 0.012
    else:
        cutter.choose_commit = lambda number: how if generator.random() < 0.3 else ""

    run_search(cut_url, space, evaluator)

    assert cutter.cuts >= 5
    assert contents(postgresql_url) == undisturbed


class Crashes:
    """An evaluator before some of whose evaluations the server crashes, to be back after a while."""

    def __init__(self, evaluate: Evaluate, server: Any, at: Sequence[int], seconds: float) -> None:
        self._evaluate, self._server, self._at, self._seconds = evaluate, server, at, seconds
        self._calls = itertools.count()
        self._outage = threading.Thread()

    def __call__(self, task: EvaluationTask) -> EvaluationResult:
        if next(self._calls) in self._at:
            if self._outage.ident is not None:
                self._outage.join()
            self._server.stop()
            self._outage = threading.Thread(target=self._come_back)
            self._outage.start()
        return self._evaluate(task)

    def _come_back(self) -> None:
        time.sleep(self._seconds)  # how long the outage is
        self._server.start()


def test_a_server_that_crashes_again_and_again(
    postgresql: Any,
    postgresql_url: str,
    space: BoundSpace,
    evaluator: Evaluate,
    undisturbed: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    crashing = Crashes(evaluator, postgresql, at=(2, 9, 15), seconds=0.6)

    run_search(postgresql_url, space, crashing)

    assert contents(postgresql_url) == undisturbed
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    said = [record.getMessage() for record in warnings]
    assert [text.startswith("database postgresql+psycopg://") for text in said] == [True] * len(said)
    assert sum("waiting up to 600 s for it to come back" in text for text in said) == 3
    assert sum("back after" in text for text in said) == 3


def test_a_transaction_lost_in_a_crash_is_not_taken_for_one_that_has_its_id_now(
    postgresql: Any, postgresql_url: str
) -> None:
    xid = text("SELECT CAST(pg_current_xact_id() AS text)")
    status = text("SELECT pg_xact_status(CAST(CAST(:id AS text) AS xid8))")
    database = Database(postgresql_url)
    RunStore(database).create("before", {}, "")
    with database.engine.connect() as connection:
        with connection.begin():
            leave_receipt(connection)
        lost = connection.begin()
        receipt, id_of_lost = leave_receipt(connection), connection.execute(xid).scalar_one()
        assert receipt is not None
        postgresql.stop()
        postgresql.start()
        connection.invalidate()
        lost.close()
    for name in ("after", "and another"):
        RunStore(database).create(name, {}, "")
    with database.engine.begin() as connection:
        assert connection.execute(status, {"id": id_of_lost}).scalar_one() == "committed"  # another one, by then
        assert not was_committed(connection, receipt)


def test_a_server_that_does_not_come_back(postgresql: Any, postgresql_url: str) -> None:
    store = RunStore(Database(postgresql_url, retry_seconds=0.5))
    store.create("run", {}, "")
    postgresql.stop()
    try:
        with pytest.raises(DatabaseError, match="the server is out of reach"):
            store.set_state("run", "running")
        began = time.monotonic()
        with pytest.raises(DatabaseError, match="the server is out of reach"):
            store.set_state("run", "failed")
        again = time.monotonic() - began
        with pytest.raises(DatabaseError, match=r"out of reach .*No such file or directory"):
            Database(postgresql_url, retry_seconds=0.2)
    finally:
        postgresql.start()
    assert again < 0.5
    store.set_state("run", "failed")


def test_a_server_that_is_still_starting(
    postgresql: Any, postgresql_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is waited for from before its start until it answers; meanwhile it refuses in words of its own."""
    postgresql.stop()
    with ThreadPoolExecutor(1) as pool:
        try:
            creating = pool.submit(lambda: RunStore(postgresql_url).create("run", {}, ""))
            deadline = time.monotonic() + 60
            while "the server is out of reach" not in caplog.text:
                assert time.monotonic() < deadline
                assert not creating.done()
                time.sleep(0.01)
        finally:
            postgresql.start()
        creating.result(60)
    created = RunStore(postgresql_url).get("run")
    assert created is not None
    assert created.name == "run"


def test_what_a_server_refuses_is_not_waited_for(postgresql: Any) -> None:
    with pytest.raises(DatabaseError, match=r'database "none" does not exist; is it reachable'):
        Database(postgresql.url("none"))
