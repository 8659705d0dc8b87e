"""Draw docs/pictures: the pages and the report of a finished run, and `glorasearch watch` of a quickstart under way.

    python scripts/screenshots.py --workspace glorasearch-runs --run quickstart

Chromium (`chromium` or `google-chrome` on the path) and playwright are needed.
"""

from __future__ import annotations

import argparse
import html
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from dashboards import make_server
from glorasearch.db import Database, RunStore
from glorasearch.errors import RunNotFoundError

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"
TERMINAL = """<body style="margin:0;background:#141512"><pre style="margin:0;padding:18px 22px;color:#e8e8e2;
font:14px/1.4 'DejaVu Sans Mono',monospace;display:inline-block">{}</pre>"""
TRIALS = 60
"""Of the search, when what it says of itself is drawn."""
SIZE = {"width": 1200, "height": 760}


def main() -> None:
    """Draw every picture anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=Path("glorasearch-runs"))
    parser.add_argument("--run", default="quickstart", help="a finished run of the workspace")
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium on the path")
    PICTURES.mkdir(exist_ok=True)
    url = f"sqlite:///{(options.workspace / 'glorasearch.db').resolve()}"
    Database(url).close()  # brings an older database up to date
    with (
        make_server(url, port=0, folder=(options.workspace / "runs").resolve()) as server,
        sync_playwright() as playwright,
    ):
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            flags = ["--no-sandbox"] if os.geteuid() == 0 else []
            browser = playwright.chromium.launch(executable_path=chromium, args=flags)
            pages(browser, f"http://127.0.0.1:{server.port}", options.run)
            report(browser, options.workspace, options.run)
            watching(browser)
            browser.close()
        finally:
            server.stop()
            thread.join()


def pages(browser: Browser, address: str, run: str) -> None:
    """The list of runs, a run from its head and from its figures, Optuna's dashboard, and a trial there."""
    page = browser.new_page(viewport=SIZE, color_scheme="light")
    page.goto(f"{address}/runs")
    page.screenshot(path=PICTURES / "runs.png", clip={"x": 0, "y": 0, "width": 1200, "height": 260})
    page.goto(f"{address}/runs/{run}")
    page.locator(".drawing svg.marks").last.wait_for()
    page.screenshot(path=PICTURES / "run.png")
    page.locator("#figures").scroll_into_view_if_needed()
    page.evaluate("document.getElementById('figures').scrollIntoView()")
    page.screenshot(path=PICTURES / "figures.png", clip={"x": 0, "y": 0, "width": 1200, "height": 590})
    page.goto(f"{address}/dashboard")
    page.get_by_text(run).first.click()
    page.get_by_text("Best Trial").first.wait_for()
    page.locator(".scatterlayer .point").first.wait_for()
    page.screenshot(path=PICTURES / "optuna.png")
    study = page.url.split("/studies/")[1].partition("/")[0]
    trials = page.request.get(f"{address}/api/studies/{study}?after=0").json()["trials"]
    bred = [one["number"] for one in trials if one["state"] == "Complete" and "bred from" in one["note"]["body"]]
    page.set_viewport_size({"width": 1200, "height": 1340})
    page.goto(f"{address}/dashboard/studies/{study}/trials?numbers={bred[-1]}")
    page.wait_for_function("() => document.querySelector(\"img[src$='/genes.png']\")?.naturalWidth > 100")
    page.screenshot(path=PICTURES / "trial.png")


def report(browser: Browser, workspace: Path, run: str) -> None:
    """The head of what `glorasearch report` writes."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "report.html"
        called("report", run, "--workspace", str(workspace), "--output", str(target))
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        page.goto(target.as_uri())
        page.screenshot(path=PICTURES / "report.png")


def watching(browser: Browser) -> None:
    """What `glorasearch watch` prints while a quickstart, which is started here, searches."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as ending:
        place = ["--workspace", folder]
        command = [sys.executable, "-m", "glorasearch", "quickstart", *place, "--set", "search.trials=5000"]
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        ending.callback(run.wait)
        ending.callback(run.terminate)
        database = Path(folder) / "glorasearch.db"
        while run.poll() is None and not (database.exists() and evaluated(str(database)) >= TRIALS):
            time.sleep(0.5)
        said = called("watch", "quickstart", "--once", *place)
    page = browser.new_page(viewport={"width": 1000, "height": 400})
    page.set_content(TERMINAL.format(html.escape(f"$ glorasearch watch quickstart --once\n{said}")))
    page.locator("pre").screenshot(path=PICTURES / "watch.png")


def evaluated(database: str) -> int:
    """Trials of the quickstart that are finished, 0 before its search begins."""
    with closing(Database(f"sqlite:///{database}")) as opened:
        try:
            progress = RunStore(opened).progress("quickstart")
        except RunNotFoundError:
            return 0
    return max((one.done for one in progress if one.stage == "search"), default=0)


def called(*arguments: str) -> str:
    """What a command of glorasearch prints, on 90 columns."""
    command = [sys.executable, "-m", "glorasearch", *arguments]
    return subprocess.run(
        command, env=os.environ | {"COLUMNS": "90"}, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


if __name__ == "__main__":
    main()
