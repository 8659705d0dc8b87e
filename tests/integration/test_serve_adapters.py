"""The example that serves adapters over HTTP: its answers, and its page in a real browser."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.random import default_rng
from PIL import Image
from playwright.sync_api import expect
from support.browser import chromium
from support.models import randomise
from support.processes import environment

import glorasearch as gs
from glorasearch.backbone import build_backbone
from glorasearch.export import AdaptedModel, Adapter, export_format
from glorasearch.space import sample

ROOT = Path(__file__).resolve().parents[2]
SERVE = ROOT / "examples" / "serve_adapters" / "serve.py"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two adapters of the quickstart's backbone, and images: a good one, a broken one and one that is too large."""
    folder = tmp_path_factory.mktemp("served")
    data = gs.load_data("digits", "quickstart", train=50, search=40, test=40)
    backbone = build_backbone(gs.BackboneConfig(name="quickstart"), data.classes)
    for seed, name in enumerate(("one", "two")):
        supernet = randomise(gs.Supernet(backbone, gs.SearchSpace.load("lean")), 0.05, seed)
        subnet = sample(supernet.space, default_rng(seed))
        adapted = AdaptedModel.of(supernet, subnet, backbone, data, source={"name": "quickstart"})
        export_format(adapted, "adapter", folder / name)
    pixels = default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "picture.png")
    (folder / "broken.png").write_bytes(b"this is no picture")
    (folder / "large.png").write_bytes(bytes(10 * 2**20 + 1))
    return [folder / "one", folder / "two"]


@pytest.fixture(scope="module")
def address(folders: list[Path]) -> Iterator[str]:
    """Where the example listens."""
    command = [sys.executable, str(SERVE), *map(str, folders), "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.match(r"(http://127\.0\.0\.1:\d+)/ serves one, two; Ctrl-C ends it", line)
            assert found, line
            yield found[1]
        finally:
            process.terminate()


def ask(address: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, object]]:
    request = urllib.request.Request(address + path, body, {"Content-Type": "application/octet-stream", **headers})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_it_answers_as_the_models_of_its_adapters(address: str, folders: list[Path]) -> None:
    _, known = ask(address, "/adapters")
    assert [one["name"] for one in known["adapters"]] == ["one", "two"]  # type: ignore[attr-defined]
    picture = folders[0].parent / "picture.png"
    expected = {}
    server = gs.AdapterServer("quickstart", device="cpu")
    for folder in folders:
        [found] = server.predict(server.add(folder), [picture], top=3)
        expected[folder.name] = [*found.labels]
        assert known["adapters"][folders.index(folder)]["digest"] == Adapter.load(folder).digest  # type: ignore[index]
    assert expected["one"] != expected["two"]

    def one(name: str) -> bool:
        status, answer = ask(address, f"/predict?adapter={name}&top=3", picture.read_bytes())
        return status == 200 and [each["label"] for each in answer["top"]] == expected[name]  # type: ignore[attr-defined]

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(one, ["one", "two"] * 6))


def test_what_is_wrong_is_said_in_words(address: str, folders: list[Path]) -> None:
    files = {name: (folders[0].parent / f"{name}.png").read_bytes() for name in ("picture", "broken", "large")}
    cases = [
        (
            "/predict?adapter=one",
            files["broken"],
            422,
            "the file cannot be read as an image: no format of images begins",
        ),
        ("/predict?adapter=one", files["large"], 413, "the file has 10.0 MB; at most 10 MB are taken"),
        ("/predict?adapter=one", b"", 400, "the file is empty"),
        ("/predict?adapter=three", files["picture"], 404, "no adapter 'three' is served here"),
        ("/predict?adapter=one&top=0", files["picture"], 400, "top is '0'"),
        ("/nothing", None, 404, "Not found"),
    ]
    for path, body, status, reason in cases:
        found, answer = ask(address, path, body)
        assert (found, str(answer["reason"])[: len(reason)]) == (status, reason)
    assert ask(address, "/predict?adapter=one", files["picture"], **{"Content-Type": "text/plain"})[0] == 415
    assert ask(address, "/adapters", Host="elsewhere.example")[0] == 403


def test_what_cannot_be_served_is_said_before_it_listens(tmp_path: Path) -> None:
    command = [sys.executable, str(SERVE), str(tmp_path), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False, timeout=240)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert str(tmp_path) in done.stderr


def test_the_page_in_a_browser(address: str, folders: list[Path]) -> None:
    files = folders[0].parent
    faults: list[str] = []
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if said.type in ("error", "warning") else None)
        page.goto(address)
        expect(page.locator("#adapter option")).to_have_text(["one", "two"])
        expect(page.locator("#about")).to_have_text("10 classes")
        content = (files / "picture.png").read_bytes()
        drop = """(content) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(content)], "dropped.png", {type: "image/png"}));
            const event = new DragEvent("drop", {dataTransfer: data, cancelable: true});
            document.getElementById("drop").dispatchEvent(event);
        }"""
        page.evaluate(drop, list(content))
        rows = page.locator("#classes tr")
        expect(rows).to_have_count(5)
        expect(page.locator("#note")).to_contain_text("Adapter one")
        expect(page.locator("#picture")).to_be_visible()
        first = page.locator("#classes").inner_text()
        page.get_by_label("Adapter").select_option("two")
        expect(page.locator("#note")).to_contain_text("Adapter two")
        assert page.locator("#classes").inner_text() != first
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.get_by_label("choose a file").set_input_files(files / "large.png")
        expect(page.get_by_role("alert")).to_contain_text("large.png has 10.0 MB; at most 10 MB are taken")
        assert faults == []
        page.get_by_label("choose a file").set_input_files(files / "broken.png")
        expect(page.get_by_role("alert")).to_contain_text("broken.png: the file cannot be read as an image")
        expect(page.locator("#answer")).to_be_hidden()
        assert [fault for fault in faults if "422" not in fault] == []  # the browser's own note of the refusal
