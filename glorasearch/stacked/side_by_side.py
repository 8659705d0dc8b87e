"""The members of a stack side by side: one forward and one backward pass for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from glorasearch.config import Compile, is_mixed
from glorasearch.errors import BackboneError, reason
from glorasearch.fused import compile_blocks
from glorasearch.recompute import recompute_blocks
from glorasearch.stacked.average import StackedAverage
from glorasearch.stacked.drops import Drops
from glorasearch.stacked.engine import Engine
from glorasearch.stacked.graph import GraphedSteps
from glorasearch.stacked.member import Member
from glorasearch.stacked.model import StackedModel, tree_of
from glorasearch.stacked.optimizer import StackedOptimizer
from glorasearch.stacked.plan import Counter, Plan
from glorasearch.stacked.store import Store
from glorasearch.tasks import Task
from glorasearch.training.memory import Kept, kept_by


class Trial(NamedTuple):
    """What a member alone answers with some weights."""

    weights: Mapping[str, Tensor]
    """Of all that it uses, by their names in its adapter state."""
    images: Tensor
    """`(n, C, H, W)`"""
    logits: Tensor
    """`(n, classes)`"""


class SideBySide(Engine):
    """All members in one model, with one batched product a layer; on GPUs each step is one CUDA graph."""

    kind = "side by side"

    def __init__(
        self,
        backbone: nn.Module,
        members: Sequence[Member],
        plans: Sequence[Plan],
        shares: Sequence[float],
        images: Tensor,
        device: torch.device,
        compile: Compile,
        task: Task,
        class_weights: Tensor | None = None,
    ) -> None:
        """Stack the members.

        Args:
            backbone: frozen; not changed.
            members: their recipes.
            plans: what each of them trains.
            shares: for each member the factor on the probabilities of the backbone's drop paths.
            images: `(1, C, H, W)`, any image, on the backbone's device.
            device: where to train.
            compile: as `StackedTrainer` takes it.
            task: has the members' losses.
            class_weights: `(M, classes)`, of images in the loss.

        Raises:
            BackboneError: if the backbone cannot be stacked, with the reason.
        """
        self._device, self._task = device, task
        self._names = [tuple(plan.values) for plan in plans]
        self._store = Store(plans, device)
        tree, seeds = tree_of(backbone), [member.config.seed for member in members]
        self._drops = Drops(tree, images, seeds, shares)
        self._model = StackedModel(tree, plans, self._store)
        self._optimizer = StackedOptimizer(self._store, members, plans)
        self._average = StackedAverage(self._store, members[0].config.ema_decay)
        smoothing = [member.config.label_smoothing for member in members]
        self._smoothing = torch.tensor(smoothing, dtype=torch.float64, device=device)
        self._class_weights = None if class_weights is None else class_weights.to(device)
        self._mixed = is_mixed(members[0].config.precision, device.type)
        self._warm_ups = [
            _WarmUp(number, one, self._store, self._model.bases[one.placed.layer])
            for number, plan in enumerate(plans)
            for one in plan.counters
        ]
        self._graphed: GraphedSteps | None = None
        if device.type == "cuda":
            self._graphed = GraphedSteps(compile, members[0].config.steps)

    def step(self, number: int, images: Tensor, targets: Tensor, scales: Sequence[float]) -> Tensor:
        """See `Engine.step`."""
        if not self._model.training:  # a walk over all modules, as long as the step of one model on a GPU
            self._model.train()
        masks = self._drops.draw(number, targets.shape[1], self._store.dtype)
        inputs = [images, targets, self._optimizer.table(scales).to(self._device)]
        inputs += [mask.to(self._device) for mask in masks]
        result = self.compute(inputs) if self._graphed is None else self._graphed(number, inputs, self)
        reset = [(warm_up.member, warm_up.step()) for warm_up in self._warm_ups]
        self._average.update(number)
        for member, names in reset:
            self._optimizer.forget(member, names)
            self._average.restart(member, names)
        return result

    def recompute(self) -> None:
        """See `Engine.recompute`; masks are drawn before the pass, so nothing is drawn again."""
        recompute_blocks(self._model.model)

    def kept(self, images: Tensor) -> Kept:
        """See `Engine.kept`."""
        self._model.train()
        masks = self._drops.draw(0, len(images) // self._model.members, self._store.dtype)
        self._drops.set([mask.to(self._device) for mask in masks])

        def run() -> Tensor:
            self._model.install(self._store.pieces(self._store.differentiable()))
            return self._forward(images, self._mixed)

        found = kept_by(self._model.model, run)
        self._model.clear()
        return found

    @property
    def fixed_bytes(self) -> int:
        """See `Engine.fixed_bytes`."""
        return 3 * self._store.theta.nbytes

    def compile_model(self) -> None:
        """See `Steppable`."""
        compile_blocks(self._model.model)

    def compute(self, inputs: Sequence[Tensor]) -> Tensor:
        """One step on images, targets, the optimiser's table and masks; returns `(M, 2)`."""
        images, targets, table, *masks = inputs
        self._drops.set(masks)
        theta = self._store.differentiable()
        self._model.install(self._store.pieces(theta))
        logits = self._forward(images, self._mixed)
        losses = self._task.member_losses(logits, targets, self._smoothing, self._class_weights)
        (gradient,) = torch.autograd.grad(losses.sum(), theta)
        self._model.clear()
        norms = self._optimizer.update(gradient, table)
        return torch.stack([losses.detach().to(norms.dtype), norms], dim=1)

    def _forward(self, images: Tensor, mixed: bool) -> Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=mixed, cache_enabled=False):
            logits: Tensor = self._model(images)
        return logits

    def logits(self, images: Tensor) -> Tensor:
        """See `Engine.logits`."""
        with self._average.active():
            return self._logits(images, self._mixed)

    @torch.no_grad()
    def _logits(self, images: Tensor, mixed: bool) -> Tensor:
        self._model.eval()
        self._model.install(self._store.pieces())
        with torch.compiler.set_stance("force_eager"):  # of any number of images
            logits = self._forward(images, mixed).float()
        self._model.clear()
        return logits

    @torch.no_grad()
    def check_apart(self, trials: Sequence[Trial]) -> None:
        """Check, in float32, that each member side by side with the others is what it is alone.

        Raises:
            BackboneError: if the logits side by side differ by more than rounding.
        """
        kept = self._store.theta.clone(), self._store.fixed.clone()
        theta, fixed = self._store.flat([trial.weights for trial in trials])
        self._store.theta.copy_(theta)
        self._store.fixed.copy_(fixed)
        try:
            images = torch.cat([trial.images for trial in trials])
            found = self._logits(images.to(self._device), mixed=False)
        except Exception as error:  # whatever a model or a plugin may raise
            raise BackboneError(f"a forward pass side by side fails: {reason(error)}") from error
        self._store.theta.copy_(kept[0])
        self._store.fixed.copy_(kept[1])
        expected = torch.stack([trial.logits for trial in trials]).to(found)
        if not torch.allclose(found, expected, rtol=1e-2, atol=1e-2 * float(expected.abs().max())):
            raise BackboneError(
                "they give other logits side by side than alone: the backbone's forward pass mixes the images of a "
                "batch, or a choice does not allow for a leading dimension"
            )

    def member_state(self, member: int) -> dict[str, Tensor]:
        """See `Engine.member_state`."""
        draws = {one.name: torch.tensor([one.draws]) for one in self._warm_ups if one.member == member}
        with self._average.active():
            return {name: self._store.row(member, name).clone() for name in self._names[member]} | draws

    def finite(self) -> Tensor:
        """See `Engine.finite`."""
        store = self._store
        with self._average.active():
            if bool(torch.isfinite(store.theta).all() & torch.isfinite(store.fixed).all()):  # asks the device once
                return torch.ones(len(self._names), dtype=torch.bool)
            rows = [[store.row(number, name) for name in names] for number, names in enumerate(self._names)]
            return torch.tensor([all(bool(torch.isfinite(row).all()) for row in own) for own in rows])

    def changed(self) -> list[Tensor]:
        """What a step changes on the device."""
        return [self._store.theta, self._optimizer.first, self._optimizer.second]

    def state(self) -> dict[str, Tensor]:
        """See `Engine.state`."""
        draws = torch.tensor([one.draws for one in self._warm_ups], dtype=torch.int64)
        own = {"theta": self._store.theta, "fixed": self._store.fixed, "draws": draws}
        return own | self._optimizer.state() | self._average.state()

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """See `Engine.load_state`."""
        self._store.theta.copy_(state["theta"])
        self._store.fixed.copy_(state["fixed"])
        self._optimizer.load_state(state)
        for name, own in self._average.state().items():
            own.copy_(state[name])
        for one, draws in zip(self._warm_ups, state["draws"].tolist(), strict=True):
            one.draws = draws

    def warming(self) -> dict[str, int]:
        """See `Engine.warming`."""
        found: dict[str, int] = {}
        for one in self._warm_ups:
            if one.runs:
                found[one.choice] = found.get(one.choice, 0) + 1
        return found


class _WarmUp:
    """The warm-up of one choice of one member."""

    def __init__(self, member: int, counter: Counter, store: Store, base: Tensor) -> None:
        placed = counter.placed
        self.member, self.choice, self.draws = member, placed.choice_class.name, counter.draws
        self.name = placed.draws
        self._counter, self._base = counter, base
        self._parts = {part: store.row(member, name) for part, name in counter.whole.items()}

    @torch.no_grad()
    def step(self) -> list[str]:
        """Count a step; returns the names of the tensors that were reset."""
        self.draws += 1
        placed = self._counter.placed
        reset = placed.choice_class.stepped(self.draws, self._parts, self._base, placed.site)
        return [self._counter.whole[part] for part in reset]

    @property
    def runs(self) -> bool:
        """Whether it is unfinished."""
        placed = self._counter.placed
        return placed.choice_class.warming(self.draws, placed.site)
