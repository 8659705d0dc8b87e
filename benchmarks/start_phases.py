"""Where the seconds go between the start of a process and the end of a run's first step.

    python benchmarks/start_phases.py RUN_FILE CODE_CACHE [KEY=VALUE ...]

The run is ended by its first step. A phase that is indented is part of the one above it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

BEGAN: Final = time.perf_counter()
CALLS: Final = (
    ("glorasearch.runs.pipeline:check_run", "checks of the run"),
    ("glorasearch.runs.pipeline:forecast", "forecast of the run: some of its steps and candidates"),
    ("glorasearch.runs.session:build_backbone", "backbone"),
    ("glorasearch.runs.session:load_search_data", "images"),
    ("glorasearch.runs.session:Supernet", "supernet"),
    ("glorasearch.runs.session:keep_code", "compiled code, opened and checked"),
    ("glorasearch.runs.training:SupernetTrainer", "trainer"),
    ("glorasearch.training.trainer:SupernetTrainer._make_step", "step"),
    ("glorasearch.supernet:Supernet.check_reached", "two forward passes that check the model"),
    ("glorasearch.fused.compiling:Captured._capture", "first step: compilation, run, capture"),
    ("glorasearch.fused.compiling:seal_code", "compiled code, sealed"),
)
"""What is called -> what it is; imported by that name there."""
COMPILER: Final = (
    "bytecode_tracing",
    "create_aot_dispatcher_function",
    "AOTAutogradCache.inductor_load",
    "compile_file",
)
"""Of torch's own times."""


class FirstStepError(BaseException):
    """Ends the run; no `Exception`, which the run would report."""


class Phases:
    """Nested phases, in the order of their beginnings."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, str, float, float]] = []
        self._depth = 0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what is inside."""
        began, place = time.perf_counter(), len(self.lines)
        self.lines.append((self._depth, name, began, began))
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            self.lines[place] = (self._depth, name, began, time.perf_counter())

    def watch(self, place: str, name: str) -> None:
        """Time a function, a method or the making of an object, wherever `place` is called by that name."""
        import importlib

        module, _, path = place.partition(":")
        holder: Any = importlib.import_module(module)
        *parents, last = path.split(".")
        for parent in parents:
            holder = getattr(holder, parent)
        known: Callable[..., Any] = getattr(holder, last)

        def timed(*given: Any, **named: Any) -> Any:
            with self.phase(name):
                return known(*given, **named)

        setattr(holder, last, timed)

    def __str__(self) -> str:
        lines = [
            f"{began - BEGAN:7.2f} s  {'  ' * depth}{name}  {end - began:.2f} s"
            for depth, name, began, end in self.lines
        ]
        return "\n".join([*lines, f"{time.perf_counter() - BEGAN:7.2f} s  end of the first step"])


class OneStep:
    """A `Progress` that ends the run once a step is done."""

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Callable[[int, str], None]]:
        """Ends at the first step of a training."""

        def advance(done: int, note: str = "") -> None:
            if title == "supernet" and done:
                raise FirstStepError

        yield advance

    def say(self, text: str) -> None:
        """Print what is said of compiled code."""
        if "compiled code" in text:
            print(text)


def phases_of(file: Path, code: Path, overrides: Iterable[str], environment: Mapping[str, str] | None = None) -> str:
    """What a new process prints that runs this file; in this environment, if it is not that of this process."""
    arguments = [sys.executable, __file__, str(file), str(code), *overrides]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    return done.stdout or done.stderr


def main() -> None:
    """Run and print."""
    file, code, *overrides = sys.argv[1:]
    phases = Phases()
    with phases.phase("import torch"):
        import torch
    with phases.phase("import timm"):
        import timm  # noqa: F401
    with phases.phase("import glorasearch"):
        import glorasearch.fused
        import glorasearch.runs.pipeline  # noqa: F401
    if torch.cuda.is_available():
        with phases.phase("CUDA"):
            torch.zeros(1, device="cuda")
    from glorasearch.runs.config import RunConfig
    from glorasearch.runs.run import Run
    from glorasearch.runs.workspace import Workspace

    for place, name in CALLS:
        phases.watch(place, name)
    with tempfile.TemporaryDirectory() as workspace:
        run = Run(RunConfig.load(Path(file), overrides), Workspace.open(workspace, code_cache=code), progress=OneStep())
        with suppress(FirstStepError):
            run.execute("train")
    print(phases)
    from torch._dynamo.utils import compilation_time_metrics, counters

    for name in COMPILER:
        if name in compilation_time_metrics:
            print(f"           of it {name} {sum(compilation_time_metrics[name]):.2f} s")
    for group in ("inductor", "aot_autograd"):
        found = {name: count for name, count in counters[group].items() if "cache" in name}
        print(f"           {group}: {found}")


if __name__ == "__main__":
    main()
