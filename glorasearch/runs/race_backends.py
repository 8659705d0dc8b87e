"""Where the stacks of a race are trained: one after the other in this process, or in tasks on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

import torch

from glorasearch.errors import RunError
from glorasearch.runs.evaluation import worker_device
from glorasearch.runs.race_images import RaceImages
from glorasearch.runs.race_stacks import MemberSpec, RaceTask, StackMaker, StackOutcome, outcome_from_json
from glorasearch.runs.resources import load_from_workers
from glorasearch.runs.results import TrainResult, stage_name
from glorasearch.runs.results.race import RaceResult
from glorasearch.runs.session import Session
from glorasearch.stacked import LARGEST, stack_size

RUN_TASKS: Final = "workers.tasks:run_tasks"
TASK: Final = "glorasearch.runs.race_stacks:run_task"
REMOTE: Final = 16
"""Models side by side on a GPU that this machine cannot ask for its memory."""
SHARES: Final = 4
"""Tasks of a worker in a rung, at least: few enough that their start does not count, enough that none waits long."""

Stack = tuple[MemberSpec, ...]


class RaceBackend(Protocol):
    """Trains stacks; `race_backend` makes the one of the run's resources."""

    @property
    def device(self) -> str:
        """Where it trains."""
        ...

    def size(self, members: Sequence[MemberSpec]) -> int:
        """How many of these models to train side by side."""
        ...

    def takes_turns(self, members: Sequence[MemberSpec]) -> bool:
        """Whether a stack of these, which are of one space, takes turns in its fused step."""
        ...

    def turns(self, count: int) -> int:
        """How many of so many models to have in a stack that takes turns."""
        ...

    def train(
        self, rung: int, stacks: Mapping[int, Stack], on_step: Callable[[int, int], None]
    ) -> Iterator[tuple[int, StackOutcome]]:
        """Train stacks and yield their outcomes as they come.

        Args:
            rung: of the race.
            stacks: number of the stack in its rung -> its members.
            on_step: called with the number of a stack and the steps that it has done.
        """
        ...


class LocalRace:
    """Trains in this process; an interrupted stack is resumed from its checkpoint."""

    def __init__(self, session: Session) -> None:
        config = session.config
        search_only = "inherited" in config.race.starts
        self._session = session
        self._maker = StackMaker(
            lambda drop_path: session.fresh_backbone(drop_path=drop_path),
            RaceImages.of(session.data, config.race.folds, config.seed, search_only=search_only),
            device=session.device,
            compile=config.compile,
            start=lambda: session.store.get(session.verify(TrainResult)).tensors,
            judge=config.race.judge,
        )

    @property
    def device(self) -> str:
        """The run's device."""
        return self._session.device

    def size(self, members: Sequence[MemberSpec]) -> int:
        """As the run file says, or as memory allows."""
        given = self._session.config.race.stack
        if given or not members:
            return given or 1
        made = self._maker.members(members)
        made.sort(key=lambda member: member.space.parameters(member.subnet), reverse=True)  # the first ones are asked
        return stack_size(self._maker.supernets(members), made, self._session.device)

    def takes_turns(self, members: Sequence[MemberSpec]) -> bool:
        """See `RaceBackend.takes_turns`; on workers' GPUs, too."""
        # The backbone is not built to know that a CPU takes none.
        return self.device.startswith("cuda") and self._maker.takes_turns(members, self.device)

    def turns(self, count: int) -> int:
        """See `RaceBackend.turns`: their memory is that of one, and little more for each."""
        return LARGEST

    def train(
        self, rung: int, stacks: Mapping[int, Stack], on_step: Callable[[int, int], None]
    ) -> Iterator[tuple[int, StackOutcome]]:
        """See `RaceBackend.train`."""
        for number, stack in stacks.items():
            stage = stage_name(RaceResult, f"{rung}-{number}")
            checkpoint = self._session.files.checkpoint(stage)
            show = partial(on_step, number)
            yield number, self._maker.train(stack, checkpoint=checkpoint, on_step=show)
            self._session.files.forget_checkpoint(stage)


class RayRace(LocalRace):
    """Trains in Ray tasks, each a few stacks; a task that is lost is started again from its first step."""

    @property
    def device(self) -> str:
        """That of the workers."""
        return worker_device(self._session)

    def size(self, members: Sequence[MemberSpec]) -> int:
        """As `LocalRace.size`; on GPUs of other machines `REMOTE`, and a worker's share of what fits on its GPU."""
        given, device = self._session.config.race.stack, self.device
        if given or not device.startswith("cuda"):
            return given or 1
        share = min(1.0, self._session.resources.gpus_per_worker or 1.0)
        whole = super().size(members) if self._session.device.startswith("cuda") else REMOTE
        return max(1, int(share * whole))

    def turns(self, count: int) -> int:
        """See `RaceBackend.turns`: every worker has its share, since one turn comes after the other."""
        return max(1, min(LARGEST, -(-count // self._session.resources.evaluators)))

    def train(
        self, rung: int, stacks: Mapping[int, Stack], on_step: Callable[[int, int], None]
    ) -> Iterator[tuple[int, StackOutcome]]:
        """See `RaceBackend.train`.

        Raises:
            RunError: if a task fails.
        """
        resources = self._session.resources
        workers, numbers = resources.evaluators, list(stacks)
        each = max(1, len(numbers) // (SHARES * workers))
        shares = {f"race-{rung}-{first}": numbers[first : first + each] for first in range(0, len(numbers), each)}
        run_tasks = load_from_workers(RUN_TASKS)
        arguments = {name: self._task([stacks[number] for number in share]) for name, share in shares.items()}
        for name, answer in run_tasks(
            TASK, arguments, address=resources.address, parallel=workers, gpus=resources.gpus_per_worker
        ):
            if not isinstance(answer, list):
                raise RunError(f"stage 'race': task {name} failed: {answer.summary}")
            for number, content in zip(shares[name], answer, strict=True):
                on_step(number, self._session.config.race.training_steps(self._session.training.steps))
                yield number, outcome_from_json(content)

    def _task(self, stacks: Sequence[Stack]) -> dict[str, Any]:
        session, config = self._session, self._session.config
        inherited = any(member.inherited for stack in stacks for member in stack)
        return RaceTask(
            backbone=config.backbone,
            classes=session.data.classes,
            data=config.data,
            stacks=tuple(stacks),
            folds=config.race.folds,
            seed=config.seed,
            search_only="inherited" in config.race.starts,
            judge=config.race.judge,
            split=self._maker.images.split.digest,
            store=session.store.url,
            weights=session.verify(TrainResult) if inherited else None,
            device=worker_device(session),
            compile=config.compile,
            code_cache=session.code_cache,
            threads=torch.get_num_threads(),
            torch=str(torch.__version__),
        ).to_json()


def race_backend(session: Session) -> RaceBackend:
    """The backend of the run's resources."""
    return LocalRace(session) if session.resources.local else RayRace(session)
