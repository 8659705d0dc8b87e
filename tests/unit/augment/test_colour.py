"""Colours against timm's operations on Pillow images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import auto_augment
from torch import Tensor
from torchvision.transforms import functional as tv

from glorasearch.training.augment.colour import COLOUR_OPERATIONS, LINES, contrast, grouped, jitter, saturation
from glorasearch.training.augment.policy import OPERATIONS

ARGUMENTS = {
    "AutoContrast": (0.0, 0.0),
    "Equalize": (0.0, 0.0),
    "Invert": (0.0, 0.0),
    "Posterize": (1, 3),
    "Solarize": (60, 200),
    "SolarizeAdd": (30, 99),
    "Color": (0.1, 1.8),
    "Contrast": (0.3, 1.6),
    "Brightness": (0.4, 1.7),
    "Sharpness": (0.1, 1.9),
    "Desaturate": (0.3, 0.9),
    "GaussianBlur": (0.5, 1.9),
}


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    """`(2, 3, 24, 20)`: smooth random colours, not all of the scale."""
    generator = torch.Generator().manual_seed(0)
    coarse = 40 + 170 * torch.rand(2, 3, 6, 5, generator=generator)
    return torch.nn.functional.interpolate(coarse, (24, 20), mode="bilinear").round()


def picture(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).to(torch.uint8).numpy())


def changed(pixels: Tensor, names: list[str], arguments: list[float]) -> Tensor:
    """Images, each by its own operation."""
    images, codes = pixels.clone(), np.array([OPERATIONS.index(name) for name in names])
    for operation, chosen, values in grouped(codes, np.array(arguments, dtype=np.float64)):
        at = torch.from_numpy(chosen)
        images[at] = operation(images[at], torch.from_numpy(values).float())
    return images


def test_every_operation_is_timms(pixels: Tensor) -> None:
    assert set(ARGUMENTS) == set(COLOUR_OPERATIONS) | set(LINES)
    for name, arguments in ARGUMENTS.items():
        own = changed(pixels, [name, name], list(arguments))
        for image, argument, found in zip(pixels, arguments, own, strict=True):
            given = () if name in ("AutoContrast", "Equalize", "Invert") else (argument,)
            if name == "Desaturate":
                given = (1 - argument,)
            expected = auto_augment.NAME_TO_OP[name](picture(image), *given)
            difference = (found - torch.from_numpy(np.array(expected)).permute(2, 0, 1).float()).abs()
            assert float(difference.max()) <= (3.0 if name == "GaussianBlur" else 1.51), (name, argument)


def test_each_image_of_a_batch_has_its_own_operation(pixels: Tensor) -> None:
    names = ["Invert", "Equalize", "Brightness", "Posterize", "Solarize", "Color", "SolarizeAdd", "GaussianBlur"]
    arguments = [ARGUMENTS[name][1] for name in names]
    together = changed(pixels[:1].repeat(len(names), 1, 1, 1), names, arguments)
    for found, name, argument in zip(together, names, arguments, strict=True):
        assert torch.equal(found, changed(pixels[:1], [name], [argument])[0]), name


def test_jitter_is_torchvisions_in_the_order_of_each_image(pixels: Tensor) -> None:
    factors = torch.tensor([[0.7, 1.4, 0.5], [1.3, 0.6, 1.5]])
    order = torch.tensor([[2, 0, 1], [1, 2, 0]])
    found = jitter(pixels, factors, order)
    apply = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation)
    for number, image in enumerate(pixels / 255):
        for which in order[number].tolist():
            image = apply[which](image, float(factors[number, which]))
        assert torch.allclose(found[number], image * 255, atol=0.05)


def test_a_factor_of_one_changes_nothing_and_grey_images_have_no_colour(pixels: Tensor) -> None:
    one = torch.ones(2, 1)
    for operation in (contrast, saturation):
        assert torch.allclose(operation(pixels.clone(), one), pixels, atol=1e-3)
    assert torch.equal(changed(pixels, ["Brightness"] * 2, [1.0, 1.0]), pixels)
    grey = pixels[:, :1]
    assert torch.equal(saturation(grey, 0 * one), grey)
    assert torch.equal(changed(grey, ["Invert"] * 2, [0.0, 0.0]), 255 - grey)
