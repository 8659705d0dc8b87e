"""Many adapters on one backbone: one resident model, into which the adapter that is asked for is merged."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, get_args

import torch
from torch import Tensor, nn

from glorasearch.backbone import BackboneConfig, build_backbone, resolve_device
from glorasearch.config import Precision, is_mixed
from glorasearch.errors import InputError
from glorasearch.export import Adapter, ExportedModel, Prediction
from glorasearch.serving.checks import check_images, check_options, taken_by
from glorasearch.serving.mixed import MixedModel, UnmixableError
from glorasearch.serving.ready import ReadyAdapter, ReadyCache
from glorasearch.serving.registry import Registry
from glorasearch.serving.resident import ResidentModel
from glorasearch.serving.served import ServedAdapter
from glorasearch.serving.served_model import ServedModel
from glorasearch.serving.stats import ServerStats
from glorasearch.serving.stream import computing
from glorasearch.serving.turns import Turns

_log = logging.getLogger(__name__)

MEMORY: Final = 2**30
"""Bytes of adapters that are kept ready, by default: some thousands of them."""
UNMERGED_BELOW: Final = {"cpu": 0.0, "cuda": 12.0}
"""Images an adapter in a batch below which nothing is merged, by default (`benchmarks/bench_serving.py`): on an H200 it
saves a quarter of the time with 1 or 2 images of ViT-B an adapter, 5 % with 8 and nothing with 16; on a CPU a merge
costs little beside one image's forward pass, and each image's own terms cost more."""
AGREEMENT: Final = 1e-3
"""How far logits without merging may be from those with it, of the largest, where an adapter is first mixed."""
AGREEMENT_BFLOAT16: Final = 0.05
"""The same in bfloat16, which has two digits."""
How = Literal["auto", "grouped", "unmerged"]
_MIXED: Final = "a batch that mixes adapters"


class AdapterServer:
    """One backbone in memory, and any number of adapters for it, each asked for by digest or name, from any thread.

    The weights of the adapter that is asked for are merged into the resident model from frozen copies of the original
    ones. So its outputs are those of the exported model, to the bit where the export was merged on the same kind of
    device (and no bias was folded into a batch norm), whatever was served before. One thread computes at a time; those
    that ask for the adapter at hand go first, up to a limit.

    Memory: the backbone, once more the layers that adapters change, and `memory` bytes of adapters.
    """

    def __init__(
        self,
        backbone: str | BackboneConfig | nn.Module,
        *,
        device: str = "auto",
        memory: int = MEMORY,
        precision: Precision = "float32",
        unmerged_below: float | None = None,
    ) -> None:
        """Build the backbone, or share the memory of one that is given.

        Args:
            backbone: a timm name, its config, or a timm model with its pretrained weights.
            device: `auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:<n>`.
            memory: bytes of adapters that are kept ready; those used longest ago are moved there again when they are
                asked for.
            precision: of the forward pass; `auto` is bfloat16 on GPUs.
            unmerged_below: images an adapter in a batch of several below which nothing is merged; by default what pays
                on the device.

        Raises:
            BackboneError: if it cannot be built, or has no head.
            InputError: if there is no such device or precision, or `memory` or `unmerged_below` is negative.
        """
        check_options(memory, unmerged_below, precision)
        self.device = torch.device(resolve_device(device))
        if not isinstance(backbone, nn.Module):
            config = BackboneConfig(name=backbone) if isinstance(backbone, str) else backbone
            backbone = build_backbone(config, classes=2)
        self._bfloat16 = is_mixed(precision, self.device.type)
        self._unmerged_below = UNMERGED_BELOW[self.device.type] if unmerged_below is None else unmerged_below
        self._resident = ResidentModel(backbone, self.device)
        self._adapters = Registry()
        self._ready = ReadyCache(memory)
        self._turns = Turns()
        self._mixed: MixedModel | None = None
        self._proven: set[str] = set()
        """Adapters that have been mixed with others, and were right."""
        self._unmixable: dict[str, str] = {}
        """Adapters that have to be merged → why; of all of them under the empty digest."""
        self._swaps = self._unmerged = 0

    @property
    def backbone(self) -> str:
        """Digest of the backbone's frozen tensors: of what its adapters were trained on."""
        return self._resident.digest

    @property
    def adapters(self) -> tuple[ServedAdapter, ...]:
        """Those that may be asked for, in the order in which they came."""
        return tuple(self._adapters)

    @property
    def stats(self) -> ServerStats:
        """What it holds and has done so far."""
        return ServerStats(
            adapters=len(self._adapters),
            ready_bytes=self._ready.nbytes,
            swaps=self._swaps,
            made_ready=self._ready.made,
            evicted=self._ready.evicted,
            unmerged=self._unmerged,
        )

    def add(self, adapter: ServedAdapter | Adapter | str | Path, name: str = "") -> str:
        """Serve an adapter, too; returns its digest. One that is there already is not added twice.

        Args:
            adapter: the folder of one that was exported with `--format adapter`, or what `Adapter.load` makes of it, or
                a subnet of a supernet in memory.
            name: what people call it; by default the name of its run.

        Raises:
            ExportError: if there is no adapter in the folder, or it was trained on another backbone.
            BackboneError: if one in memory was.
            InputError: if another adapter has its name.
        """
        if isinstance(adapter, (str, Path)):
            adapter = Adapter.load(adapter)
        if isinstance(adapter, Adapter):
            name = name or str((adapter.facts.get("provenance") or {}).get("run") or adapter.path.name)
            adapter = ServedAdapter.exported(adapter, self._resident.pristine, self._resident.digest, name=name)
        elif name:
            adapter = replace(adapter, name=name)
        digest = adapter.digest
        with self._turns.turn(digest):
            self._resident.meet(adapter)
            self._adapters.add(adapter)
        return digest

    def remove(self, adapter: str) -> None:
        """Serve an adapter no longer.

        Raises:
            InputError: if there is none of that name or digest.
        """
        digest = self.find(adapter).digest
        with self._turns.turn(digest):
            self._adapters.remove(digest)
            self._ready.forget(digest)

    def find(self, adapter: str) -> ServedAdapter:
        """The adapter with a name, a digest, or a digest that begins so.

        Raises:
            InputError: if there is none, or there are several.
        """
        return self._adapters.find(adapter)

    def __call__(self, adapter: str, images: Tensor) -> Tensor:
        """Logits `(N, classes)` float32 on the server's device, of normalised images `(N, C, H, W)` of any device.

        Raises:
            InputError: if there is no such adapter, or these are not images.
        """
        found = self.find(adapter)
        check_images(images)
        with self._turns.turn(found.digest), computing(images, self.device) as moved:
            return self._merged(self._of(found), moved)

    def swap(self, adapter: str) -> None:
        """Merge an adapter before it is asked for; on a GPU this does not wait for the device.

        Raises:
            InputError: if there is no such adapter.
        """
        found = self.find(adapter)
        with self._turns.turn(found.digest), computing(torch.empty(0), self.device):
            self._swaps += self._resident.write(self._of(found))

    def mixed(self, adapters: Sequence[str], images: Tensor, how: How = "auto") -> list[Tensor]:
        """Logits `(classes,)` of each of normalised images `(N, C, H, W)`, each by an adapter of its own.

        `grouped` merges adapter after adapter, and gives exactly what each alone would. `unmerged` takes one forward
        pass of the original backbone and adds to each image what its adapter has for it, which rounds otherwise (about
        1e-6 of the largest logit in float32). An adapter that is mixed for the first time is also computed alone, and
        from then on merged if that does not agree. `auto` does not merge where an adapter has less than
        `unmerged_below` images on average.

        Raises:
            InputError: if there is no such adapter, the numbers differ, or `unmerged` is asked for and not possible.
        """
        check_images(images)
        if how not in get_args(How):
            raise InputError(f"how is {how!r}; allowed are {', '.join(get_args(How))}")
        if len(adapters) != len(images):
            raise InputError(f"{len(adapters)} adapters for {len(images)} images; one for each is needed")
        found = [self.find(one) for one in adapters]
        distinct = {one.digest: one for one in found}
        owner = [list(distinct).index(one.digest) for one in found]
        few = len(distinct) > 1 and len(images) < self._unmerged_below * len(distinct)
        with self._turns.turn(_MIXED), computing(images, self.device) as moved:
            if how == "unmerged" or (how == "auto" and few):
                try:
                    return self._without_merging([self._of(one) for one in distinct.values()], moved, owner)
                except UnmixableError as error:
                    if how == "unmerged":
                        raise InputError(f"these adapters have to be merged: {error}; leave how out") from error
            return self._grouped(list(distinct.values()), moved, owner)

    def model(self, adapter: str) -> nn.Module:
        """An adapter as a module, `(N, C, H, W)` to `(N, classes)`, which any thread may call."""
        return ServedModel(self, self.find(adapter).digest, self.device)

    def predict(
        self, adapter: str, files: Sequence[str | Path], *, top: int | None = None, batch_size: int = 64
    ) -> Iterator[Prediction]:
        """The `top` most likely classes of each image file, read as in the adapter's training.

        A file that cannot be read says why. Without `top` it is one class, or all labels of a multi-label adapter.

        Raises:
            InputError: if there is no such adapter.
        """
        found = self.find(adapter)
        model = ExportedModel(
            Path(found.label),
            ServedModel(self, found.digest, self.device),
            found.spec,
            found.reading,
            found.class_names,
            found.temperature,
            found.task,
        )
        return model.predict([Path(file) for file in files], top=top, batch_size=batch_size)

    def _of(self, adapter: ServedAdapter) -> ReadyAdapter:
        return self._ready.get(adapter.digest, lambda: ReadyAdapter.of(adapter, self._resident.layers, self.device))

    def _merged(self, adapter: ReadyAdapter, images: Tensor) -> Tensor:
        self._swaps += self._resident.write(adapter)
        return self._forward(self._resident.model, images)

    def _forward(self, model: nn.Module, images: Tensor) -> Tensor:
        with taken_by(self._resident.model, images), torch.autocast(self.device.type, torch.bfloat16, self._bfloat16):
            logits: Tensor = model(images)
        return logits.float()

    def _grouped(self, adapters: Sequence[ServedAdapter], images: Tensor, owner: Sequence[int]) -> list[Tensor]:
        """One forward pass for each adapter's images, the adapter at hand first."""
        found: dict[int, Tensor] = {}
        for which in sorted(set(owner), key=lambda one: adapters[one].digest != self._resident.current):
            places = [place for place, one in enumerate(owner) if one == which]
            logits = self._merged(self._of(adapters[which]), images[places])
            found |= dict(zip(places, logits, strict=True))
        return [found[place] for place in range(len(owner))]

    def _without_merging(self, adapters: Sequence[ReadyAdapter], images: Tensor, owner: Sequence[int]) -> list[Tensor]:
        """Raises `UnmixableError` if it cannot be done, or turned out wrong."""
        for one in adapters:
            if one.digest in self._unmixable:
                raise UnmixableError(self._unmixable[one.digest])
        if self._mixed is None or self._mixed.names != self._resident.layers.keys():
            self._mixed = MixedModel(self._resident)
        mixed = self._mixed
        with taken_by(self._resident.model, images), torch.autocast(self.device.type, torch.bfloat16, self._bfloat16):
            logits = [one.float() for one in mixed(images, adapters, owner)]
        self._prove(adapters, images, owner, logits)
        self._unmerged += 1
        return logits

    def _prove(
        self, adapters: Sequence[ReadyAdapter], images: Tensor, owner: Sequence[int], logits: Sequence[Tensor]
    ) -> None:
        """Compute each adapter that has not been mixed before alone, too, and compare."""
        for which, one in enumerate(adapters):
            if one.digest in self._proven:
                continue
            places = [place for place, other in enumerate(owner) if other == which]
            alone, together = self._merged(one, images[places]), torch.stack([logits[place] for place in places])
            off, size = (alone - together).abs(), alone.abs()
            # Numbers have a unit each, classes are on one scale.
            off, size = (off.amax(0), size.amax(0)) if one.numbers else (off.max()[None], size.max()[None])
            if not bool((off <= (AGREEMENT if not self._bfloat16 else AGREEMENT_BFLOAT16) * size).all()):
                worst = (off / size).argmax()
                reason = f"{one.digest[:12]} differs by {float(off[worst]):.3g} then, of {float(size[worst]):.3g}"
                self._unmixable[one.digest] = reason
                _log.warning("adapters are merged one after the other: without merging, %s", reason)
                raise UnmixableError(reason)
            self._proven.add(one.digest)
