"""What an exported model says of images that a person names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from glorasearch.data.given_images import given_images
from glorasearch.export import ExportedModel, Prediction
from glorasearch.runs.progress import Progress, Silent
from glorasearch.runs.session import resolve_device


def predict_images(
    export: str | Path,
    images: str | Path | Iterable[str | Path],
    *,
    top: int = 1,
    batch_size: int = 64,
    device: str = "auto",
    progress: Progress | None = None,
) -> list[Prediction]:
    """What an exported model says of images, which are read and preprocessed as in its training.

    Args:
        export: folder of the exported model.
        images: files, and folders of them.
        top: classes for each image, the most likely first.
        batch_size: images that are classified at once.
        device: `auto` (a GPU if there is one), `cpu`, `cuda`, `cuda:<n>`.
        progress: shows the images, such as `ProgressBars()`.

    Returns:
        One prediction an image, in their order; that of a file that cannot be read has an `error`.

    Raises:
        ExportError: if there is no exported model, or it cannot be loaded.
        DataError: if a path does not exist, or a folder has no image.
    """
    files = given_images([images] if isinstance(images, (str, Path)) else images)
    model = ExportedModel.load(export, resolve_device(device))
    with (progress or Silent()).task("predicting", len(files)) as advance:
        return list(model.predict(files, top=top, batch_size=batch_size, advance=lambda done: advance(done, "")))
