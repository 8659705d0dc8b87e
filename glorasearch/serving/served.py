"""One adapter that is served: the parts of its choices, its head, and what is known of its images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from torch import Tensor, nn

from glorasearch.choices import SUPPORT_TENSORS, Choice, Contribution, Site, parse_choice
from glorasearch.data import InputSpec, SearchData, Splits
from glorasearch.data.reading import Reading
from glorasearch.export import Adapter
from glorasearch.export.units import last_layers, scaled
from glorasearch.space import Subnet
from glorasearch.supernet import Supernet
from glorasearch.tasks import CLASSIFY, Regress, Task, task_of
from glorasearch.weights import frozen_digest
from glorasearch.weights.digest import entries_digest, tensor_entries


@dataclass(frozen=True, slots=True)
class AdapterGene:
    """What one support tensor of one layer has: a choice, and the parts that were trained for it."""

    choice: Choice
    site: Site
    parts: Mapping[str, Tensor]
    """Cut to the choice's arguments."""

    def contribution(self, base: Tensor) -> Contribution:
        """What it adds to the layer with W0 `base (out, in)`."""
        return self.choice.contribution(self.parts, base, self.site)


@dataclass(frozen=True)
class ServedAdapter:
    """What was trained for one task on a frozen backbone: some hundred thousand numbers."""

    digest: str
    """Of all that decides what it says of an image: what it is asked for by."""
    genes: Mapping[str, tuple[AdapterGene, ...]]
    """Layer → its choices but for `none`, in the order A to E."""
    head: Mapping[str, Tensor]
    """The head's parameters by their names in the backbone; rows are classes."""
    backbone: str
    """Digest of the frozen tensors that it was trained on."""
    class_names: tuple[str, ...]
    """In the order of the outputs."""
    spec: InputSpec
    """Size, normalisation and cropping of its images."""
    reading: Reading = field(default_factory=Reading)
    """How the pixels of a file are read."""
    temperature: float = 1.0
    """What its logits are divided by before they become probabilities."""
    task: Task = CLASSIFY
    name: str = ""
    """What people call it; may be asked for like the digest."""

    @classmethod
    def of(
        cls,
        supernet: Supernet,
        subnet: Subnet,
        data: SearchData | Splits | None = None,
        *,
        name: str = "",
        temperature: float = 1.0,
    ) -> Self:
        """A subnet with the weights that a supernet has now: a copy on the CPU.

        Args:
            supernet: trained for this subnet.
            subnet: one of its space.
            data: gives preprocessing, class names and task; if not given they are the backbone's, and its classes are
                numbered. Of targets that are numbers, the served adapter answers in their own units.
            name: what people call it.
            temperature: what its logits are divided by before they become probabilities.

        Raises:
            SearchSpaceError: if the subnet is not of this space.
            BackboneError: if its head cannot answer in the units of targets.
        """
        genes, head = _trained(supernet, subnet)
        task = CLASSIFY if data is None else data.search.task
        if isinstance(task, Regress) and task.standard is not None:
            for layer in last_layers(supernet.model, len(task.standard.mean)):
                weight, bias = f"{layer}.weight", f"{layer}.bias"
                found = scaled(head[weight], head[bias], task.standard)
                head |= {name: value.to(head[name].dtype) for name, value in zip((weight, bias), found, strict=True)}
        outputs = getattr(supernet.model, "num_classes", None)
        classes = outputs if isinstance(outputs, int) else len(next(iter(head.values())))
        backbone = frozen_digest(supernet)
        return cls(
            digest=_digest(genes, head, backbone),
            genes=genes,
            head=head,
            backbone=backbone,
            class_names=tuple(map(str, range(classes))) if data is None else tuple(data.class_names),
            spec=InputSpec.from_backbone(supernet.model) if data is None else data.search.spec,
            reading=Reading() if data is None or data.reading is None else data.reading,
            temperature=temperature,
            task=task_of(task.kind),
            name=name,
        )

    @classmethod
    def exported(cls, adapter: Adapter, backbone: nn.Module, digest: str, *, name: str = "") -> Self:
        """An adapter that was exported, on a backbone whose frozen tensors have a digest.

        Raises:
            ExportError: if it was trained on another one.
        """
        supernet = adapter.supernet(backbone, digest=digest)
        genes, head = _trained(supernet, adapter.subnet)
        return cls(
            digest=adapter.digest,
            genes=genes,
            head=head,
            backbone=adapter.backbone_digest,
            class_names=adapter.class_names,
            spec=adapter.spec,
            reading=adapter.reading,
            temperature=adapter.temperature,
            task=adapter.task,
            name=name,
        )

    @property
    def label(self) -> str:
        """What it is called in messages: its name, or the beginning of its digest."""
        return self.name or self.digest[:12]

    @property
    def nbytes(self) -> int:
        """Of its parts and its head."""
        parts = [part for genes in self.genes.values() for gene in genes for part in gene.parts.values()]
        return sum(one.nbytes for one in (*parts, *self.head.values()))


def _trained(supernet: Supernet, subnet: Subnet) -> tuple[dict[str, tuple[AdapterGene, ...]], dict[str, Tensor]]:
    """What a subnet has of its supernet's weights: genes by layer, and the head."""
    supernet.space.check(subnet)
    genes = {layer: own for layer in supernet.adapted if (own := tuple(_genes(supernet, subnet, layer)))}
    return genes, {key: _kept(value) for key, value in supernet.head_parameters().items()}


def _genes(supernet: Supernet, subnet: Subnet, layer: str) -> Iterator[AdapterGene]:
    for tensor, choice in zip(SUPPORT_TENSORS, subnet.layer(layer), strict=True):
        if choice != "none":
            support = supernet.adapted[layer].support_of(tensor)
            parts = {name: _kept(value) for name, value in support.parts(choice).items()}
            yield AdapterGene(parse_choice(choice), support.lookup(choice)[0].site, parts)


def _kept(value: Tensor) -> Tensor:
    return value.detach().cpu().contiguous().clone()


def _digest(genes: Mapping[str, tuple[AdapterGene, ...]], head: Mapping[str, Tensor], backbone: str) -> str:
    named = [(f"{layer}.{gene.site.tensor}", gene) for layer, own in genes.items() for gene in own]
    parts = {f"{place}.{part}": value for place, gene in named for part, value in gene.parts.items()}
    choices = {place: [str(gene.choice), dict(gene.site.options)] for place, gene in named}
    return entries_digest(tensor_entries(parts | dict(head)), {"backbone": backbone, "choices": choices})
