"""What a run trained, and nothing of its backbone: subnet, the parts of its choices, head; reloaded by digest."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from torch import Tensor, nn

from glorasearch.adapters import adaptable_layers
from glorasearch.adapters.rebuild import as_json
from glorasearch.backbone import BackboneConfig, build_backbone
from glorasearch.choices import CHOICES, Choice, options_of
from glorasearch.choices.plugins import plugin_sources, source_digest
from glorasearch.data import InputSpec
from glorasearch.data.reading import Reading
from glorasearch.errors import BackboneError, ExportError, GlorasearchError, SearchSpaceError, reason
from glorasearch.export.adapted import AdaptedModel
from glorasearch.export.folder import load_tensors, read_manifest, save_tensors
from glorasearch.export.stored_facts import class_names_of, reading_of, spec_of, temperature_in
from glorasearch.space import BoundSpace, Gene, Subnet
from glorasearch.supernet import Supernet
from glorasearch.tasks import Task, task_of
from glorasearch.weights.digest import TensorEntry, entries_digest, frozen_digest, tensor_entries

ADAPTER_NAME: Final = "adapter.safetensors"
_IDENTITY: Final = ("num_classes", "label_names", "task", "pretrained_cfg", "reading", "subnet", "options", "same_as")
"""What of the manifest decides what the adapter says of an image, beside its tensors, backbone and temperature."""


@dataclass(frozen=True)
class Adapter:
    """An adapter as it was exported: all that it takes to make its model on its backbone."""

    path: Path
    digest: str
    """Of everything that decides what it says of an image, its backbone included."""
    backbone_digest: str
    """Of the frozen tensors of the backbone that it was trained on."""
    backbone: Mapping[str, Any]
    """How that is built: `name` and perhaps `args`, as in a run file; a name of another machine's folder may not do."""
    subnet: Subnet
    options: Mapping[str, Mapping[str, float]]
    """Of its choice classes."""
    tensors: Mapping[str, Tensor]
    """The parts of its choices and its head, by their names in `Supernet.adapter_state`."""
    class_names: tuple[str, ...]
    """In the order of the outputs; numbers where there are no names."""
    task: Task
    spec: InputSpec
    """Size, normalisation and cropping of the images that it was trained on."""
    reading: Reading
    temperature: float
    """What its logits are divided by before they become probabilities."""
    facts: Mapping[str, Any]
    """All that its manifest says."""

    @classmethod
    def load(cls, path: str | Path, *, plugins: Collection[str] = ()) -> Self:
        """The adapter in a folder that `glorasearch export RUN --format adapter` has written.

        Nothing that the folder names is imported: choices of one's own have to be given as `plugins`.

        Raises:
            ExportError: if there is none, it is damaged, or it has choices of plugins that are not given, or that are
                other code now.
        """
        path = Path(path)
        facts = read_manifest(path, "adapter")
        try:
            _check_plugins(path, facts["plugins"], plugins)
            tensors = load_tensors(path / ADAPTER_NAME)
            found = cls(
                path=path,
                digest=facts["digest"],
                backbone_digest=facts["backbone"]["digest"],
                backbone={key: value for key, value in facts["backbone"].items() if key != "digest"},
                subnet=Subnet.from_dict(facts["subnet"]),
                options=facts["options"],
                tensors=tensors | {name: tensors[same] for name, same in facts["same_as"].items()},
                class_names=class_names_of(facts),
                task=task_of(facts["task"]),
                spec=spec_of(facts["pretrained_cfg"]),
                reading=reading_of(facts["reading"]),
                temperature=temperature_in(facts),
                facts=facts,
            )
            digest = _digest(tensors, facts)
        except GlorasearchError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ExportError(f"adapter {path} is damaged: {reason(error)}; export it again") from error
        if digest != found.digest:
            raise ExportError(
                f"adapter {path} was altered: its digest was {found.digest[:12]} when it was written, and is "
                f"{digest[:12]} now; export it again"
            )
        return found

    def supernet(self, backbone: nn.Module | None = None, *, digest: str | None = None) -> Supernet:
        """A supernet of this one subnet with its weights, in evaluation mode; it shares the backbone's memory.

        `merged_layer(name, adapter.subnet)` and `merged(adapter.subnet)` of it are what the run exported.

        Args:
            backbone: with a head of any number of classes; built as in the run if none is given.
            digest: of the backbone's frozen tensors, if they need not be read once more.

        Raises:
            BackboneError: if the backbone cannot be built.
            ExportError: if it is another one.
        """
        if backbone is None:
            backbone = self._build()
        try:
            backbone = _with_classes(backbone, int(self.facts["num_classes"]))
            layers = [layer for layer in adaptable_layers(backbone) if layer.name in self.subnet.to_dict()]
            genes = [Gene(layer, tensor, (choice,)) for (layer, tensor), choice in self.subnet.items()]
            supernet = Supernet(backbone, BoundSpace("adapter", layers, genes, options=self.options)).eval()
        except (SearchSpaceError, KeyError) as error:
            raise ExportError(f"{self._of_another(backbone)}: {reason(error)}") from error
        found = digest or frozen_digest(supernet)
        if found != self.backbone_digest:
            raise ExportError(
                f"{self._of_another(backbone)}: the digest of its frozen tensors is {found[:12]}, not "
                f"{self.backbone_digest[:12]}"
            )
        supernet.load_adapter_state(supernet.warm_ups.state() | dict(self.tensors))
        return supernet

    def model(self, backbone: nn.Module | None = None) -> nn.Module:
        """The merged model, as the run exported it; arguments and errors are those of `supernet`."""
        return self.supernet(backbone).merged(self.subnet)

    def _build(self) -> nn.Module:
        try:
            config = BackboneConfig(**self.backbone)
            return build_backbone(config, int(self.facts["num_classes"]))
        except (BackboneError, ValueError) as error:
            raise BackboneError(
                f"the backbone of adapter {self.path}, {self.backbone.get('name')!r}, cannot be built here "
                f"({reason(error)}): build it, and give it to the adapter"
            ) from error

    def _of_another(self, backbone: nn.Module) -> str:
        return f"adapter {self.path} is of backbone {self.backbone.get('name')!r}; {type(backbone).__name__} is another"


def write_adapter(adapted: AdaptedModel, folder: Path) -> dict[str, Any]:
    """Write the adapter of a trained subnet into a folder; returns what the manifest has to say of it."""
    tensors, same_as = _without_copies(adapter_tensors(adapted.supernet, adapted.subnet))
    save_tensors(folder / ADAPTER_NAME, tensors)
    given = adapted.supernet.space.options
    classes = {name: CHOICES[name] for name in sorted(_classes_of(adapted.subnet))}
    facts = as_json(
        adapted.described()
        | {
            "options": {name: options for name in classes if (options := options_of(name, given.get(name, {})))},
            "plugins": {_path(one): source_digest(one) for one in classes.values() if _is_plugin(one)},
            "same_as": same_as,
        },
        "manifest",
    )
    return facts | {"digest": _digest(tensors, facts)}


def adapter_outputs(folder: Path, adapted: AdaptedModel) -> Callable[[Tensor], Tensor]:
    """What the adapter in a folder computes on its backbone, merged."""
    plugins = [_path(CHOICES[name]) for name in _classes_of(adapted.subnet)]
    loaded = Adapter.load(folder, plugins=plugins).supernet(adapted.backbone, digest=adapted.backbone_digest)
    return loaded.merged(adapted.subnet)


def adapter_tensors(supernet: Supernet, subnet: Subnet) -> dict[str, Tensor]:
    """The parts that a subnet uses, cut to its choices, and the head, named as a supernet of it alone names them."""
    found = {
        f"{layer}.{tensor}.{part}": value.detach()
        for (layer, tensor), choice in subnet.items()
        if choice != "none"
        for part, value in supernet.adapted[layer].support_of(tensor).parts(choice).items()
    }
    return found | {name: value.detach() for name, value in supernet.head_parameters().items()}


def _without_copies(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of which no earlier one has the same values, such as those that layers share; name → which it is."""
    kept: dict[str, Tensor] = {}
    same: dict[str, str] = {}
    first: dict[TensorEntry, str] = {}
    for name, entry in tensor_entries(tensors).items():
        known = first.setdefault(entry, name)
        if known == name:
            kept[name] = tensors[name]
        else:
            same[name] = known
    return kept, same


def _digest(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
    own = {name: facts.get(name) for name in _IDENTITY}
    fields = own | {"backbone": facts["backbone"]["digest"], "temperature": temperature_in(facts)}
    return entries_digest(tensor_entries(tensors), fields)


def _with_classes(backbone: nn.Module, classes: int) -> nn.Module:
    """The backbone with a head for that many classes; another one shares its memory."""
    if getattr(backbone, "num_classes", None) == classes:
        return backbone
    memo: dict[int, object] = {id(one): one for one in (*backbone.parameters(), *backbone.buffers())}
    other = copy.deepcopy(backbone, memo)
    other.reset_classifier(classes)  # type: ignore[operator]
    return other.to(next(backbone.parameters()).device)


def _classes_of(subnet: Subnet) -> set[str]:
    """Names of the choice classes."""
    return {choice.partition(":")[0] for _, choice in subnet.items()}


def _is_plugin(choice: type[Choice]) -> bool:
    return choice.__module__.partition(".")[0] != "glorasearch"


def _path(choice: type[Choice]) -> str:
    return f"{choice.__module__}:{choice.__qualname__}"


def _check_plugins(path: Path, needed: Mapping[str, str | None], given: Collection[str]) -> None:
    """Raise `ExportError` unless the plugins that an adapter needs are given, or imported, and the same code."""
    known = {_path(choice) for choice in CHOICES.values()}
    missing = [name for name in needed if name not in known and name not in given]
    if missing:
        raise ExportError(
            f"adapter {path} has choices of {', '.join(missing)}, which is code outside of glorasearch: if you trust "
            f"it, give plugins={missing}"
        )
    found = plugin_sources(needed)
    for name, source in needed.items():
        if found[name] != source:
            raise ExportError(
                f"adapter {path} was trained with other code of {name} (SHA-256 {str(source)[:12]}, here "
                f"{str(found[name])[:12]}): install that version"
            )
