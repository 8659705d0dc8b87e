"""How long a browser takes to open a large search: 1,050 trials of 240 genes, as one on ViT-B/16 is.

    python benchmarks/bench_dashboard.py [--json PATH] [--repeats 5] [--trials 1050]

Needs Chromium. A dashboard process serves an SQLite database of random subnets; each page is opened in a new context
of the browser, with nothing in its cache, from the navigation on until what it shows is there: Optuna's page of the
study with a point for every trial, the run's own page with its table of trials, and with all its figures drawn, which
come after the page. The first opening, for which the server has nothing read yet, has a row of its own.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState
from table import Row, finish, json_option

from glorasearch.db import RunState, RunStore, TrialStorage
from glorasearch.runs.config import RunConfig
from glorasearch.search import TrialRecord
from glorasearch.space import Score

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TARGET: Final = 3.0
"""Seconds."""
NAME: Final = "large"
CHOICES: Final = {
    "A": ("none", "constant", "vector", "lora:8"),
    "B": ("none", "constant", "vector", "lora:8"),
    "C": ("none", "vector", "lora:8"),
    "D": ("none", "constant", "vector"),
    "E": ("none", "constant", "vector"),
}
GENES: Final[dict[str, BaseDistribution]] = {
    f"blocks.{block}.{layer}.{tensor}": CategoricalDistribution(choices)
    for block in range(12)
    for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    for tensor, choices in CHOICES.items()
}
PAGES: Final = {
    "Optuna's page of the study, all points": (
        "/dashboard/studies/1",
        "count => document.querySelectorAll('.scatterlayer .point').length >= count",
    ),
    "the run's page, its table of trials": (
        f"/runs/{NAME}",
        "() => document.querySelectorAll(`a[href*='/trials/']`).length >= 20",
    ),
    "the same, all its figures drawn": (
        f"/runs/{NAME}",
        "() => { const all = document.querySelectorAll('#figures figure');"
        " return all.length > 3 && [...all].every(one => one.querySelector('svg, canvas')); }",
    ),
}
"""What is opened -> its address, and when it is there."""


def fill(url: str, trials: int) -> None:
    """A run with a search of random subnets."""
    config = RunConfig.model_validate(
        {"backbone": {"name": "vit_base_patch16_224"}, "data": {"source": "digits"}, "space": {"name": "glora_medium"}}
    )
    storage = TrialStorage(url)
    runs = RunStore(storage.database)
    runs.create(NAME, config.model_dump(mode="json"), "d" * 64)
    runs.set_state(NAME, RunState.STOPPED)
    study_id = storage.create_new_study([StudyDirection.MINIMIZE], NAME)
    draw = random.Random(0)
    for number in range(trials):
        trial_id = storage.create_new_trial(study_id)
        params = {name: draw.choice(CHOICES[name[-1]]) for name in GENES}
        attrs = {"subnet": f"{number:064}", "parameters": draw.randrange(200_000, 900_000)}
        attrs["parents"] = [] if number < 50 else [number - 50, number - 49]
        storage.set_trial_params(trial_id, params, GENES, attrs)
        accuracy = draw.random()
        score = Score(int(100 * accuracy), 100, cross_entropy=2 - accuracy, tempered=1 - accuracy, beta=0.5)
        record = TrialRecord(0, attrs["subnet"], attrs["parameters"], score)
        storage.finish_trial(trial_id, TrialState.COMPLETE, [1 - accuracy], record.to_attrs())
    storage.database.close()


def opened(browser: Browser, address: str, ready: str, trials: int) -> float:
    """Seconds from the navigation to a page's being there."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    try:
        page = context.new_page()
        start = time.perf_counter()
        page.goto(address, wait_until="commit")
        page.wait_for_function(ready, arg=trials, timeout=120_000)
        return time.perf_counter() - start
    finally:
        context.close()


def serve(url: str) -> tuple[subprocess.Popen[str], str]:
    """A dashboard process, and its address."""
    command = [sys.executable, "-m", "glorasearch", "dashboard", "--database", url, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(r"http://[\w.:\[\]]+:\d+", line):
            return process, found[0]
    raise SystemExit("bench_dashboard.py: the dashboard ended before it said its address")


def rows(repeats: int, trials: int) -> Iterator[Row]:
    """A row for the first opening of each page, and one for the later ones."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        raise SystemExit("bench_dashboard.py: there is no Chromium on the path")
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder).resolve()}/glorasearch.db"
        fill(url, trials)
        for what, (place, ready) in PAGES.items():
            process, address = serve(url)
            try:
                with sync_playwright() as playwright:
                    browser = playwright.chromium.launch(
                        executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"]
                    )
                    first, *later = [opened(browser, address + place, ready, trials) for _ in range(repeats + 1)]
                    browser.close()
            finally:
                process.terminate()
                process.wait()
            target = None if "figures" in what else TARGET
            yield Row(what=f"{what}, first", measured=first, unit="s", target=target)
            note = f"{repeats} times, {min(later):.2f} to {max(later):.2f} s"
            yield Row(what=what, measured=statistics.median(later), unit="s", target=target, note=note)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--trials", type=int, default=1_050)
    json_option(parser)
    options = parser.parse_args()
    finish(rows(options.repeats, options.trials), options, trials=options.trials, genes=len(GENES))


if __name__ == "__main__":
    main()
