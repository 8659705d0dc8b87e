"""The pages, and Optuna's dashboard over the summarising view of a database, and a server for both."""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Collection
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, cast
from weakref import WeakKeyDictionary

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.server import TcpWSGIServer

from dashboards.changes import Changes
from dashboards.doors import guarded, names_of_this_machine, read_only
from dashboards.optuna_calls import OptunaCalls
from dashboards.optuna_page import with_script
from dashboards.optuna_view import RunsView
from dashboards.pages import Figures, Forms, Reader, make_pages
from dashboards.pages.forms import ACTIONS
from dashboards.pages.render import assets_version
from dashboards.tokens import check_token, locked
from glorasearch.errors import InputError
from glorasearch.figures import library

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from sqlalchemy import URL

    from glorasearch.runs.workspace import Workspace

_THREADS: Final = 8
"""Requests answered at once: a browser asks for the page and the study together."""
_ARRIVES_SECONDS: Final = 60
"""In this time a request has to arrive."""
_POLL_SECONDS: Final = 1.0
_LARGEST: Final = 262_144
"""Bytes of what a request sends; a note takes half of it at most."""
_OPTUNAS: Final = ("dashboard", "api", "static", "csv", "artifacts", "favicon.ico")
"""First parts of the paths that are Optuna's; all others are the pages'."""
_STUDY: Final = re.compile(r"(/(?:api|dashboard)/studies/|/csv/)([0-9]{1,18})(?=/|$)")
"""The paths of Optuna's that are of one study."""
_FORM: Final = re.compile(rf"/runs/[^/]+/(?:{'|'.join(ACTIONS)})")
"""The paths of the forms that change a run."""


class _Server(TcpWSGIServer):
    """Gives up, besides connections without any activity, those whose request does not arrive in time.

    A byte now and then would keep such a connection for ever, and there are so many connections and no more.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._begun: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        super().__init__(*arguments, **options)

    def maintenance(self, now: int) -> None:
        """Look at all connections; called every 30 s or so."""
        super().maintenance(now)
        for channel in list(cast("dict[int, Any]", self.active_channels).values()):
            request = channel.request  # that has not arrived whole
            if request is not None and now - self._begun.setdefault(request, now) > _ARRIVES_SECONDS:
                channel.will_close = True


class DashboardServer:
    """A WSGI application behind waitress. It listens from the start and answers while `run` runs."""

    def __init__(self, application: WSGIApplication, listener: socket.socket) -> None:
        self.port: int = listener.getsockname()[1]
        self._stopped = threading.Event()
        self._channels: dict[int, Any] = {}
        place = (listener.family, listener.type, listener.proto, listener.getsockname())
        settings = Adjustments(threads=_THREADS, ident=None, max_request_body_size=_LARGEST)
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a line for each request that waits
        self._server = _Server(
            application, self._channels, _sock=listener, adj=settings, sockinfo=place, bind_socket=False
        )

    def run(self) -> None:
        """Answer requests until `stop` is called."""
        while not self._stopped.is_set():
            wasyncore.loop(_POLL_SECONDS, map=self._channels, count=1)

    def stop(self) -> None:
        """Have `run` return; any thread may call it."""
        self._stopped.set()
        self._server.pull_trigger()

    def close(self) -> None:
        """Finish the requests under way, for 5 s at most, and close all connections."""
        self._server.task_dispatcher.shutdown()
        wasyncore.close_all(self._channels)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def make_app(
    database_url: str | URL,
    names: Collection[str] = (),
    folder: Path | None = None,
    token: str | None = None,
    workspace: Workspace | None = None,
) -> WSGIApplication:
    """The dashboard as a WSGI application, to be mounted at the root of a server: our pages, and Optuna's beside them.

    It only reads, unless it is given a workspace to change: other requests than GET and HEAD are answered with 405.

    Args:
        database_url: of the database.
        names: host names by which the server is called, besides `localhost`, this machine's own and all addresses;
            requests for others are answered with 403.
        folder: where the runs' folders are; without it no files are offered.
        token: what everybody has to know who reads; without it, everybody reads who reaches the server.
        workspace: whose runs may be noted of, renamed and removed by pages of this dashboard; it has this database.

    Raises:
        DatabaseError: if there is no glorasearch database at the URL.
    """
    from optuna_dashboard import wsgi

    changes = None if workspace is None else Changes(workspace)
    reader = Reader(database_url, folder, editable=changes is not None)
    figures = Figures(reader)
    view = RunsView(reader, figures)
    optunas: WSGIApplication = wsgi(view)
    page = with_script(optunas, assets_version(), editable=changes is not None)
    calls = None if changes is None else OptunaCalls(view, changes)
    pages = make_pages(reader, figures, None if changes is None else Forms(changes))

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if calls is not None and calls.action(environ["REQUEST_METHOD"], path) is not None:
            return calls(environ, start_response)
        first = path.lstrip("/").partition("/")[0]
        if first not in _OPTUNAS:
            return pages(environ, start_response)
        optuna = page if first == "dashboard" else optunas
        asked = _STUDY.match(path)
        if asked is None:
            return optuna(environ, start_response)
        study_id = view.begun(int(asked[2]))
        begun = f"{asked[1]}{study_id}{path[asked.end() :]}"
        if first == "dashboard" and begun != path:
            start_response("302 Found", [("Location", begun), ("Content-Length", "0")])
            return []
        environ["PATH_INFO"] = begun
        with view.asked(study_id):
            return optuna(environ, start_response)

    def changing(method: str, path: str) -> bool:
        return OptunaCalls.action(method, path) is not None or (method == "POST" and bool(_FORM.fullmatch(path)))

    reading = read_only(application, None if changes is None else changing)
    inner = reading if token is None else locked(reading, token)
    return guarded(inner, {*names, *names_of_this_machine()})


def make_server(
    database_url: str | URL,
    host: str = "127.0.0.1",
    port: int = 8080,
    names: Collection[str] = (),
    folder: Path | None = None,
    token: str | None = None,
    workspace: Workspace | None = None,
) -> DashboardServer:
    """A server of the dashboard, which listens already. Port 0 takes a free one; its `port` says which.

    `names`, `folder`, `token` and `workspace` are as in `make_app`; `host` is always a name.

    Raises:
        InputError: if the address cannot be listened on, or can be reached from other machines and there is no token.
        DatabaseError: if there is no glorasearch database at the URL.
    """
    check_token(host, token)
    application = make_app(database_url, {*names, host}, folder, token, workspace)
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"the dashboard cannot listen on {host}:{port}: {reason}; choose another port") from error
    threading.Thread(target=_make_library, name="vega", daemon=True).start()
    return DashboardServer(application, listener)


def _make_library() -> None:
    """Have the script that draws figures made before the first page asks for it; a failure is that page's to say."""
    with suppress(Exception):
        library()
