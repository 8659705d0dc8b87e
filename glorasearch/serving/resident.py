"""The resident model: one plain backbone in memory into which adapter after adapter is merged."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Final
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor, nn

from glorasearch.adapters import AdaptedLayer, Base, frozen_tensors, head_names, is_adaptable, rows_of
from glorasearch.errors import BackboneError, first_line
from glorasearch.serving.ready import ReadyAdapter
from glorasearch.serving.served import ServedAdapter
from glorasearch.weights import tensor_digest

_log = logging.getLogger(__name__)

MOST_RECORDED: Final = 64
"""CUDA graphs of merges: each keeps room for what its merge computes in between, such as a layer's dense shift."""


class ResidentModel:
    """Two models of one backbone that share the memory of all weights which no adapter changes.

    `pristine` is frozen for good. In `model` the layers that any adapter changes have weights of their own, which are
    always merged from the pristine ones, never from what was there before: so an adapter has the same bits however many
    others were written in between.

    On a GPU the merge of an adapter that comes again is recorded as a CUDA graph: launched one by one, its some 200
    small kernels would take longer than they run.
    """

    def __init__(self, backbone: nn.Module, device: torch.device) -> None:
        """The backbone is not changed; its head is of no account.

        Raises:
            BackboneError: if it has no head.
        """
        self.device = device
        self.pristine = _shared_copy(backbone).to(device).eval().requires_grad_(False)
        self.heads = head_names(self.pristine)
        self.digest = tensor_digest(frozen_tensors(self.pristine))
        self.model = _shared_copy(self.pristine)
        self.layers: dict[str, AdaptedLayer] = {}
        """The pristine layers that adapters change, by name, without choices."""
        self.current: str | None = None
        """Digest of the adapter that `model` holds; None if it holds none, or a part of one."""
        self._plain: dict[str, Base] = {}
        """The same layers of `model`."""
        self._biases: dict[str, nn.Parameter] = {}
        """Their biases, if they have any now."""
        self._changed: set[str] = set()
        """Those whose weight is not W0."""
        self._records = device.type == "cuda"
        self._recorded: WeakKeyDictionary[ReadyAdapter, torch.cuda.CUDAGraph] = WeakKeyDictionary()
        self._seen: WeakSet[ReadyAdapter] = WeakSet()
        """Those that have been written."""

    def meet(self, adapter: ServedAdapter) -> None:
        """Prepare for the layers that an adapter changes.

        Raises:
            BackboneError: if it was trained on another backbone.
        """
        if adapter.backbone != self.digest:
            raise BackboneError(
                f"adapter {adapter.label} was trained on the backbone {adapter.backbone[:12]}, and this server holds "
                f"{self.digest[:12]}: start one with that backbone"
            )
        for name in [name for name in adapter.genes if name not in self.layers]:
            base, plain = (_layer_of(one, name) for one in (self.pristine, self.model))
            layer = AdaptedLayer(base, {}, entangle="untied", generator=torch.Generator(), shared={})
            plain._parameters["weight"] = _frozen(plain.weight.detach().clone(memory_format=torch.contiguous_format))
            self._biases[name] = _frozen(layer.weight_view.new_zeros(layer.out_features))
            self.layers[name], self._plain[name] = layer, plain
            self._recorded.clear()  # they do not restore this layer

    def write(self, adapter: ReadyAdapter) -> bool:
        """Merge an adapter's weights into the model, unless they are there; returns whether they were not.

        On a GPU it does not wait for the device.
        """
        if self.current == adapter.digest:
            return False
        self.current = None  # an interrupted write leaves weights that belong to no adapter
        if self._records:
            self._replay(adapter)
        else:
            self._merge(adapter)
        for name, plain in self._plain.items():
            change = adapter.layers.get(name)
            has = self.layers[name].base.bias if change is None else change.bias
            plain._parameters["bias"] = None if has is None else self._biases[name]
        self._write_head(adapter.head, adapter.classes)
        self.current = adapter.digest
        return True

    def _merge(self, adapter: ReadyAdapter, *, all_layers: bool = False) -> None:
        """Write weights and biases; unless `all_layers`, only of layers that this adapter or the last one changes."""
        for name, layer in self.layers.items():
            change = adapter.layers.get(name)
            added = [] if change is None else change.added(layer.weight_view)
            if added or all_layers or name in self._changed:
                self._changed.add(name)
                layer.merge_weight(added, rows_of(self._plain[name].weight.data))
            if not added:
                self._changed.discard(name)
            bias = layer.base.bias if change is None else change.bias
            if bias is not None:
                self._biases[name].data.copy_(bias)

    def _replay(self, adapter: ReadyAdapter) -> None:
        """Replay the merge, which is recorded when the adapter is written for the second time."""
        graph = self._recorded.get(adapter)
        if graph is not None:
            graph.replay()
            self._changed = {name for name, change in adapter.layers.items() if change.weight}
            return
        self._merge(adapter, all_layers=True)
        if adapter in self._seen and len(self._recorded) < MOST_RECORDED:
            self._record(adapter)
        self._seen.add(adapter)

    def _record(self, adapter: ReadyAdapter) -> None:
        try:
            torch.cuda.synchronize(self.device)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads may use the device
                self._merge(adapter, all_layers=True)
        except Exception as error:  # captures fail in many ways
            self._records = False
            _log.warning("merges cannot be recorded here (%s): they are launched one by one", first_line(error))
            self._merge(adapter, all_layers=True)
            return
        self._recorded[adapter] = graph

    def _write_head(self, head: Mapping[str, Tensor], classes: int) -> None:
        """Its tensors take the places of the last one's: they may be of another number of classes."""
        for name, value in head.items():
            owner, _, key = name.rpartition(".")
            module = self.model.get_submodule(owner)
            module._parameters[key] = _frozen(value)
            if key == "weight" and isinstance(module, nn.Linear):
                module.out_features = len(value)
        if isinstance(getattr(self.model, "num_classes", None), int):
            self.model.num_classes = classes  # type: ignore[assignment]


def _shared_copy(model: nn.Module) -> nn.Module:
    """A module tree of its own that shares the memory of parameters and buffers."""
    memo: dict[int, object] = {id(one): _frozen(one.detach()) for one in model.parameters()}
    memo |= {id(one): one.detach() for one in model.buffers()}
    return copy.deepcopy(model, memo)


def _frozen(value: Tensor) -> nn.Parameter:
    return nn.Parameter(value, requires_grad=False)


def _layer_of(model: nn.Module, name: str) -> Base:
    module = dict(model.named_modules()).get(name)
    if module is None or not is_adaptable(module):
        raise BackboneError(f"the backbone has no layer {name!r} that can be adapted")
    return module
