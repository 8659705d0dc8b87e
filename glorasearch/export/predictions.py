"""What an exported model says of image files: read as in its training, with the preprocessing that it carries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import timm
import torch
from torch import Tensor, nn

from glorasearch.bounded import read_json_file
from glorasearch.data import InputSpec
from glorasearch.data.names import shown
from glorasearch.data.normalisation import Normalisation
from glorasearch.data.pixels import image_transform, parallel, unreadable
from glorasearch.data.reading import Reading
from glorasearch.data.records import FileRecords
from glorasearch.errors import ExportError, GlorasearchError, reason
from glorasearch.export.stored_facts import class_names_of, reading_of, spec_of, temperature_in
from glorasearch.tasks import CLASSIFY, Task, task_of

BATCH: Final = 64
"""Images that are read and classified at once."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The most likely classes of one image, or its numbers."""

    file: str
    labels: tuple[str, ...]
    """The most likely first, or all targets; none of a file that cannot be read."""
    probabilities: tuple[float, ...]
    """Of each of `labels`; none of numbers."""
    conversion: str = ""
    """What was done to its pixels before they were resized, such as `P to RGB`; usually nothing."""
    error: str | None = None
    """Why the file cannot be read."""
    numbers: tuple[float, ...] | None = None
    """Of each of `labels`, where the model answers with numbers."""

    def to_json(self) -> dict[str, Any]:
        """As JSON values: the most likely class, and `top`, all that were asked for; or the numbers by their names."""
        if self.numbers is not None:
            found = dict(zip(self.labels, self.numbers, strict=True))
            return {"file": self.file, "numbers": found, "conversion": self.conversion, "error": self.error}
        top = [
            {"label": label, "probability": probability}
            for label, probability in zip(self.labels, self.probabilities, strict=True)
        ]
        first = top[0] if top else {"label": None, "probability": None}
        return {"file": self.file, **first, "top": top, "conversion": self.conversion, "error": self.error}


@dataclass(frozen=True)
class ExportedModel:
    """An exported model with all that it takes to ask it about a file."""

    path: Path
    model: nn.Module
    """timm's, in evaluation mode."""
    spec: InputSpec
    """Size, normalisation and cropping of the images that it was trained on."""
    reading: Reading
    """How the pixels of a file were read."""
    class_names: tuple[str, ...]
    """In the order of the outputs."""
    temperature: float = 1.0
    """What its logits are divided by before they become probabilities, found on held-out images; 1 where
    the run found none."""
    task: Task = CLASSIFY

    @classmethod
    def load(cls, path: str | Path, device: torch.device | str = "cpu") -> Self:
        """The model that was exported to a folder.

        Raises:
            ExportError: if there is none, or it cannot be loaded.
        """
        path, config = Path(path), _config(path)
        own = config["glorasearch"]
        try:
            model = timm.create_model(f"local-dir:{path}", pretrained=True).eval().to(device)
            return cls(
                path,
                model,
                spec_of(config["pretrained_cfg"]),
                reading_of(own.get("reading")),
                class_names_of(config),
                temperature_in(own),
                task_of(own.get("task", "classify")),
            )
        except GlorasearchError:
            raise
        except Exception as error:  # timm, safetensors and torch each raise their own
            raise ExportError(
                f"the exported model {path} cannot be loaded: {reason(error)}; export it again"
            ) from error

    def predict(
        self,
        files: Sequence[Path],
        *,
        top: int | None = None,
        batch_size: int = BATCH,
        temperature: float | None = None,
        advance: Callable[[int], None] | None = None,
    ) -> Iterator[Prediction]:
        """The `top` most likely classes of each file, in their order; one that cannot be read says why.

        Without `top` it is one class, or all labels where an image has any number of them.

        `temperature` takes the place of the model's own; `advance` is called with the number of files done.
        """
        records = FileRecords(files, [0] * len(files))
        if top is None:
            top = 1 if self.task.exclusive else len(self.class_names)
        transform, normalise = image_transform(self.spec), Normalisation(self.spec)
        device = next(self.model.parameters()).device
        for start in range(0, len(files), batch_size):
            size = min(batch_size, len(files) - start)
            pixels = torch.zeros((size, self.spec.channels, self.spec.height, self.spec.width), dtype=torch.uint8)
            read = _Read(records, self.spec.channels, self.reading, transform, pixels, start)
            done = parallel(read, size)
            with torch.inference_mode():
                found = self._classify(normalise(pixels.to(device)), top, temperature or self.temperature)
            for place, ((conversion, error), labels, values) in enumerate(zip(done, *found, strict=True)):
                file = shown(files[start + place])
                if error:
                    yield Prediction(file, (), (), error=error, numbers=None if self.task.right_or_wrong else ())
                elif self.task.right_or_wrong:
                    yield Prediction(file, labels, values, conversion)
                else:
                    yield Prediction(file, labels, (), conversion, numbers=values)
            if advance is not None:
                advance(start + size)

    def _classify(
        self, images: Tensor, top: int, temperature: float
    ) -> tuple[list[tuple[str, ...]], list[tuple[float, ...]]]:
        """Labels and probabilities of images `(n, C, H, W)`, the most likely first; of equal ones in class order.

        Or all targets and their numbers.
        """
        said = self.task.said(self.model(images), temperature).cpu()
        if not self.task.right_or_wrong:
            return [self.class_names] * len(said), [tuple(row) for row in said.tolist()]
        ordered = said.sort(dim=-1, descending=True, stable=True)
        labels = [tuple(self.class_names[one] for one in row) for row in ordered.indices[:, :top].tolist()]
        return labels, [tuple(row) for row in ordered.values[:, :top].tolist()]


@dataclass(frozen=True)
class _Read:
    """Reads one file of a batch into its place; returns what was done to it, and what is wrong with it."""

    records: FileRecords
    channels: int
    reading: Reading
    transform: Callable[..., Tensor]
    pixels: Tensor
    start: int

    def __call__(self, place: int) -> tuple[str, str | None]:
        index = self.start + place
        try:
            image = self.records.image(index)
            conversion = self.reading.conversion(image, self.channels)
            self.pixels[place].copy_(self.transform(self.reading.convert(image, self.channels)))
        except Exception as error:  # decoders raise all kinds of errors for broken bytes
            name = self.records.name(index)
            return "", unreadable(name, error).removeprefix(f"{name}: ")
        return conversion, None


def temperature_of(path: str | Path) -> float:
    """What the logits of the model that was exported to a folder are divided by; 1 if its run found nothing.

    Raises:
        ExportError: if there is none.
    """
    return temperature_in(_config(path)["glorasearch"])


def _config(path: str | Path) -> dict[str, Any]:
    """The `config.json` of an export."""
    try:
        config: dict[str, Any] = read_json_file(Path(path) / "config.json")
        config["glorasearch"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ExportError(
            f"{path} is not a model that glorasearch has exported; expected its config.json there"
        ) from error
    return config
