"""The program on an exported model's card: from an image file to a label, with timm and no glorasearch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from glorasearch.tasks.kinds import TaskKind

_PROGRAM = '''import numpy as np
import timm
import torch
from PIL import Image, ImageOps

model = timm.create_model("local-dir:PATH", pretrained=True).eval()  # PATH: this directory
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))


def read(file):
    """An image as in the training."""
    image = Image.open(file)
    image.load()
{steps}
    return image.convert("{mode}")


with torch.inference_mode():
    {outputs} = model(transform(read("IMAGE"))[None])[0]  # IMAGE: a file
{printed}'''
_PRINTED: Final[dict[TaskKind, str]] = {
    "classify": (
        "probabilities = {shares}\nprobability, index = probabilities.max(0)\nprint({label}, float(probability))"
    ),
    "multilabel": (
        "probabilities = {shares}\nfor index, probability in enumerate(probabilities):\n"
        "    print({label}, float(probability))"
    ),
    "regress": "for index, number in enumerate(numbers):\n    print({label}, float(number))",
}
_UPRIGHT = "    image = ImageOps.exif_transpose(image)"
_WHOLE = """    if image.mode.startswith("I"):  # {who}: {low} is black, {white} is white
        values = np.asarray(image).astype(np.int64).clip({low}, {high})
        image = Image.fromarray(((values - {low}) * 256 // {count}).astype(np.uint8))"""
_SHARE = """    if image.mode{which}:  # {who}: {low} is black, {white} is white
        values = np.asarray(image).astype(np.float64).clip({low}, {high})
        image = Image.fromarray(np.floor((values - {low}) / {width} * 255 + 0.5).astype(np.uint8))"""
_NO_SCALE = """    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        raise ValueError("the training had no images of 32 bits or floating point, so that their scale is unknown")"""
_FUNCTIONS: Final[dict[TaskKind, str]] = {"classify": "softmax(-1)", "multilabel": "sigmoid()", "regress": ""}
_TEMPERED = "(logits / {:.6g}).{}  # the temperature that held-out images gave"
FULL = (0, 65535)
"""Black and white of 16 bits where the training was told nothing else."""


def example(
    channels: int,
    reading: Mapping[str, Any] | None,
    named: bool,
    temperature: float | None = None,
    task: TaskKind = "classify",
) -> str:
    """The program, in Python.

    Args:
        channels: 1 or 3, of the model's input.
        reading: how stored pixels were read, `{"exif": ..., "pixel_range": ...}`; None where they were arrays.
        named: whether the export has names of classes.
        temperature: what logits are divided by before they become probabilities.
        task: what the model says of an image.
    """
    upright, limits = (True, None) if reading is None else (reading["exif"], reading["pixel_range"])
    steps = [_NO_SCALE] if limits is None else []  # first: an image that was turned has no format
    steps += [_UPRIGHT] if upright else []
    low, high = limits or FULL
    if low == int(low) and high == int(high):
        low, high = int(low), int(high)
        values = {"low": low, "high": high, "white": high, "count": high - low + 1, "width": high - low}
        steps.append(_WHOLE.format(who="more than 8 bits a pixel" if limits else "16 bits a pixel", **values))
        if limits is not None:
            steps.append(_SHARE.format(which=' == "F"', who="floating point", **values))
    else:
        values = {"low": low, "high": high, "white": high, "width": high - low}
        steps.append(_SHARE.format(which='.startswith(("I", "F"))', who="more than 8 bits a pixel", **values))
    label = 'model.pretrained_cfg["label_names"][index]' if named else "int(index)"
    mode = "L" if channels == 1 else "RGB"
    function, outputs = _FUNCTIONS[task], "numbers" if task == "regress" else "logits"
    shares = f"logits.{function}" if temperature is None else _TEMPERED.format(temperature, function)
    printed = _PRINTED[task].format(label=label, shares=shares)
    program = _PROGRAM.format(steps="\n".join(steps), mode=mode, printed=printed, outputs=outputs)
    return program if upright else program.replace("import Image, ImageOps", "import Image")
