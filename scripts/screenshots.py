"""Draw docs/pictures: the pages of a finished run, and `glorasearch watch`, as a reader of the documentation sees them.

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
import threading
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from dashboards import make_server
from glorasearch.db import Database

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"
TERMINAL = """<body style="margin:0;background:#141512"><pre style="margin:0;padding:18px 22px;color:#e8e8e2;
font:14px/1.4 'DejaVu Sans Mono',monospace;display:inline-block">{}</pre>"""
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
    with make_server(url, port=0) as server, sync_playwright() as playwright:
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            flags = ["--no-sandbox"] if os.geteuid() == 0 else []
            browser = playwright.chromium.launch(executable_path=chromium, args=flags)
            pages(browser, f"http://127.0.0.1:{server.port}", options.run)
            terminal(browser, options.workspace, options.run)
            browser.close()
        finally:
            server.stop()
            thread.join()


def pages(browser: Browser, address: str, run: str) -> None:
    """The list of runs, a run from its head and from its figures, and Optuna's dashboard."""
    page = browser.new_page(viewport=SIZE, color_scheme="light")
    page.goto(f"{address}/runs")
    page.screenshot(path=PICTURES / "runs.png", clip={"x": 0, "y": 0, "width": 1200, "height": 260})
    page.goto(f"{address}/runs/{run}")
    page.locator(".drawing svg.marks").last.wait_for()
    page.screenshot(path=PICTURES / "run.png")
    page.locator("#figures").scroll_into_view_if_needed()
    page.evaluate("document.getElementById('figures').scrollIntoView()")
    page.screenshot(path=PICTURES / "figures.png")
    page.goto(f"{address}/dashboard")
    page.get_by_text(run).first.click()
    page.get_by_text("Best Trial").first.wait_for()
    page.locator(".scatterlayer .point").first.wait_for()
    page.screenshot(path=PICTURES / "optuna.png")


def terminal(browser: Browser, workspace: Path, run: str) -> None:
    """What `glorasearch watch` prints."""
    command = [sys.executable, "-m", "glorasearch", "watch", run, "--once", "--workspace", str(workspace)]
    environment = os.environ | {"COLUMNS": "90"}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    page = browser.new_page(viewport={"width": 1000, "height": 400})
    page.set_content(TERMINAL.format(html.escape(f"$ glorasearch watch {run} --once\n{said}")))
    page.locator("pre").screenshot(path=PICTURES / "watch.png")


if __name__ == "__main__":
    main()
