"""What an exported model says of images that a person names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from glorasearch.backbone import resolve_device
from glorasearch.data.given_images import given_images
from glorasearch.errors import InputError
from glorasearch.export import ExportedModel, Prediction
from glorasearch.runs.progress import Progress, Silent


def predict_images(
    export: str | Path,
    images: str | Path | Iterable[str | Path],
    *,
    top: int | None = None,
    batch_size: int = 64,
    device: str = "auto",
    temperature: float | None = None,
    progress: Progress | None = None,
) -> list[Prediction]:
    """What an exported model says of images, which are read and preprocessed as in its training.

    Args:
        export: folder of the exported model.
        images: files, and folders of them.
        top: classes for each image, the most likely first; if not given one, or all labels of a multi-label model.
        batch_size: images that are classified at once.
        device: `auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:<n>`.
        temperature: what logits are divided by before the softmax, or sigmoid; that of the export if not given, and 1
            for the plain one.
        progress: shows the images, such as `ProgressBars()`.

    Returns:
        One prediction an image, in their order; that of a file that cannot be read has an `error`.

    Raises:
        ExportError: if there is no exported model, or it cannot be loaded.
        InputError: if the temperature is not above 0, or the model answers with numbers, which have none, nor a `top`.
        DataError: if a path does not exist, or a folder has no image.
    """
    if temperature is not None and not temperature > 0:
        raise InputError(f"temperature is {temperature:g}; expected a number above 0, 1 for the plain softmax")
    files = given_images([images] if isinstance(images, (str, Path)) else images)
    model = ExportedModel.load(export, resolve_device(device))
    if not model.task.right_or_wrong and (top is not None or temperature not in (None, 1.0)):
        raise InputError(
            "top and temperature are of classes and labels, but this model answers with numbers: leave both out"
        )
    with (progress or Silent()).task("predicting", len(files)) as advance:
        return list(
            model.predict(
                files, top=top, batch_size=batch_size, temperature=temperature, advance=lambda done: advance(done, "")
            )
        )
