"""Serves adapters of one backbone over HTTP, with a page to drop an image on.

    python examples/serve_adapters/serve.py --backbone vit_base_patch16_224.augreg_in21k \\
        glorasearch-runs/runs/flowers/export-adapter glorasearch-runs/runs/birds/export-adapter

Folders are those of `glorasearch export RUN --format adapter`. One model is in memory, whatever the number of adapters.

| request | answer |
|---|---|
| `GET /` | the page |
| `GET /adapters` | name, digest, task and number of classes of every adapter; the largest file |
| `POST /predict?adapter=NAME&top=5` | the likeliest classes; the body is the file, as `application/octet-stream` |

What is wrong with a request is said in words: `{"reason": ...}`; of a body that is far too large
by the server itself, in plain text.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import bottle
import waitress
from PIL import Image

import glorasearch as gs

HERE: Final = Path(__file__).resolve().parent
LARGEST: Final = 10 * 2**20
"""Bytes of an image file."""
MOST_PIXELS: Final = 50_000_000
"""Of an image: a small file may hold a very large one."""
MOST_CLASSES: Final = 50
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def make_app(server: gs.AdapterServer, largest: int = LARGEST, host: str = "127.0.0.1") -> bottle.Bottle:
    """The page and its two questions as a WSGI application."""
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2  # Pillow refuses what has twice as many
    app = bottle.Bottle()
    app.default_error_handler = as_json
    known = {"localhost", host.lower()}

    @app.hook("before_request")
    def check_host() -> None:
        """A web page whose name was resolved to this machine must not read what is served here."""
        name = bottle.request.get_header("Host", "").rpartition(":")[0].strip("[]") or bottle.request.get_header(
            "Host", ""
        )
        if name.lower() not in known and not is_address(name):
            refuse(403, f"this server is not called {name!r}")

    @app.hook("after_request")
    def add_headers() -> None:
        for name, value in HEADERS.items():
            bottle.response.set_header(name, value)

    @app.get("/")
    def page() -> bottle.HTTPResponse:
        return bottle.static_file("page.html", root=HERE)

    @app.get("/<name:re:page[.](?:css|js)>")
    def asset(name: str) -> bottle.HTTPResponse:
        return bottle.static_file(name, root=HERE)

    @app.get("/favicon.ico")
    def icon() -> bottle.HTTPResponse:
        return bottle.HTTPResponse(status=204)

    @app.get("/adapters")
    def adapters() -> dict[str, Any]:
        found = [
            {"name": one.label, "digest": one.digest, "task": one.task.kind, "classes": len(one.class_names)}
            for one in server.adapters
        ]
        return {"adapters": found, "largest": largest}

    @app.post("/predict")
    def predict() -> dict[str, Any]:
        if bottle.request.content_type != "application/octet-stream":
            refuse(415, "send the image file itself, with Content-Type: application/octet-stream")
        size = bottle.request.content_length
        if size > largest:
            refuse(
                413,
                f"the file has {size / 2**20:.1f} MB; at most {largest / 2**20:g} MB are taken: send a smaller image",
            )
        if size < 1:
            refuse(400, "the file is empty; send an image")
        top = bottle.request.query.get("top", "5")
        if not top.isdecimal() or not 1 <= int(top) <= MOST_CLASSES:
            refuse(400, f"top is {top!r}; give a number from 1 to {MOST_CLASSES}")
        try:
            adapter = server.find(bottle.request.query.getunicode("adapter", ""))
        except gs.InputError as error:
            refuse(404, str(error))
        with tempfile.NamedTemporaryFile(suffix=".image") as file:
            file.write(bottle.request.body.read())
            file.flush()
            found = next(server.predict(adapter.digest, [file.name], top=int(top)))
        if found.error is not None:
            refuse(422, "the file " + found.error.partition("; replace the file")[0])
        return {**found.to_json(), "file": None, "adapter": adapter.label, "digest": adapter.digest}

    return app


def as_json(error: bottle.HTTPError) -> str:
    """What a request that was refused is answered with."""
    bottle.response.content_type = "application/json"
    for name, value in HEADERS.items():
        bottle.response.set_header(name, value)
    return json.dumps({"reason": str(error.body)})


def refuse(status: int, reason: str) -> None:
    """End a request with a reason in words."""
    raise bottle.HTTPError(status, reason)


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def main(listening: Callable[[str], None] = print) -> int:
    """Load the adapters, say where the page is, and serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapters", nargs="+", type=Path, help="folders; NAME=FOLDER gives one another name")
    parser.add_argument("--backbone", default="quickstart", help="a timm name, local-dir:<path> or quickstart")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:<n>")
    parser.add_argument("--host", default="127.0.0.1", help="there is no password: other machines can ask, too")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    options = parser.parse_args()
    try:
        server = gs.AdapterServer(options.backbone, device=options.device)
        for given in map(str, options.adapters):
            name, _, folder = given.rpartition("=") if not Path(given).exists() else ("", "", given)
            server.add(folder, name)
    except gs.GlorasearchError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    app = make_app(server, host=options.host)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a line for each request that waits
    try:
        http = waitress.create_server(
            app, host=options.host, port=options.port, ident=None, max_request_body_size=LARGEST + 2**20
        )
    except OSError as error:
        print(f"cannot listen on {options.host}:{options.port}: {error.strerror}; choose another port", file=sys.stderr)
        return 2
    served = ", ".join(one.label for one in server.adapters)
    listening(f"http://{options.host}:{http.effective_port}/ serves {served}; Ctrl-C ends it")
    sys.stdout.flush()
    try:
        http.run()
    finally:
        http.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
