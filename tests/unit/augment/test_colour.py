"""Colours against timm's operations on Pillow images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import auto_augment
from torch import Tensor
from torchvision.transforms import functional as tv

from glorasearch.training.augment.colour import jitter, saturation
from glorasearch.training.augment.passes import passes
from glorasearch.training.augment.policy import GEOMETRIC, OPERATIONS

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


def done(images: Tensor, names: list[list[str]], arguments: list[list[float]]) -> Tensor:
    """Images after the operations of a row each; '' for none."""
    codes = np.array([[OPERATIONS.index(name) if name else -1 for name in row] for row in names])
    images = images.clone()
    for one in passes(codes, np.array(arguments, np.float64)):
        at = torch.from_numpy(one.images)
        images[at] = one.run(images[at], torch.from_numpy(one.arguments).float())
    return images


def test_every_operation_is_timms(pixels: Tensor) -> None:
    assert set(ARGUMENTS) == set(OPERATIONS) - set(GEOMETRIC)
    for name, arguments in ARGUMENTS.items():
        own = done(pixels, [[name], [name]], [[one] for one in arguments])
        for image, argument, found in zip(pixels, arguments, own, strict=True):
            given = () if name in ("AutoContrast", "Equalize", "Invert") else (argument,)
            if name == "Desaturate":
                given = (1 - argument,)
            expected = auto_augment.NAME_TO_OP[name](picture(image), *given)
            difference = (found - torch.from_numpy(np.array(expected)).permute(2, 0, 1).float()).abs()
            assert float(difference.max()) <= (3.0 if name == "GaussianBlur" else 1.51), (name, argument)


def test_thresholds_and_steps_are_exactly_timms_though_numbers_are_not_quite_whole() -> None:
    """A resampling that moves nothing leaves 199.99999 where 200 was."""
    levels = torch.arange(256.0).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    for name, argument in {"Solarize": 200, "SolarizeAdd": 60, "Posterize": 3, "Invert": 0}.items():
        given = () if name == "Invert" else (argument,)
        expected = torch.from_numpy(np.array(auto_augment.NAME_TO_OP[name](picture(levels[0]), *given))).permute(
            2, 0, 1
        )
        for error in (-1e-4, 0.0, 1e-4):
            found = done(levels + error, [[name]], [[argument]])
            assert float((found[0] - expected.float()).abs().max()) <= 2e-4, (name, error)


def test_each_image_has_its_own_operations_in_its_own_order() -> None:
    """As one at a time, in few passes."""
    rng = np.random.default_rng(4)
    names = list(ARGUMENTS)
    drawn = [[names[code] if code < len(names) else "" for code in row] for row in rng.integers(15, size=(40, 3))]
    values = [[float(rng.uniform(*ARGUMENTS[name])) if name else 0.0 for name in row] for row in drawn]
    values = [
        [float(round(one)) if one > 2 or name == "Posterize" else one for name, one in zip(*row, strict=True)]
        for row in zip(drawn, values, strict=True)
    ]
    images = (255 * torch.rand(40, 3, 12, 10, generator=torch.Generator().manual_seed(2))).round()
    found = done(images, drawn, values)
    for number, (row, own) in enumerate(zip(drawn, values, strict=True)):
        alone = images[number : number + 1]
        for name, value in zip(row, own, strict=True):
            alone = done(alone, [[name]], [[value]])
        differing = (found[number] - alone[0]).abs() > 1e-2
        assert float(differing.float().mean()) < 0.02, row  # beside a threshold rounding decides
    codes = np.array([[OPERATIONS.index(name) if name else -1 for name in row] for row in drawn])
    todo = passes(codes, np.array(values))
    assert sum(len(one.images) for one in todo) == sum(name != "" for row in drawn for name in row)
    assert len(todo) <= 14  # by layers there would be up to 36


def test_an_image_of_one_colour_has_no_contrast_to_stretch() -> None:
    """Nor does the rounding of a resampling give it any."""
    flat = 180 + 1e-4 * torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    flat[:, 1] = torch.linspace(50, 100, 64).view(8, 8)
    found = done(flat, [["AutoContrast"]], [[0.0]])
    assert torch.allclose(found[:, ::2], flat[:, ::2], atol=1e-3)
    assert torch.allclose(found[:, 1], (flat[:, 1] - 50) * 5.1, atol=1e-2)


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
    for name in ("Brightness", "Contrast", "Color", "Sharpness"):
        assert torch.allclose(done(pixels, [[name], [name]], [[1.0], [1.0]]), pixels, atol=1e-3)
    grey = pixels[:, :1]
    assert torch.equal(saturation(grey, torch.zeros(2, 1, 1, 1)), grey)
    assert torch.equal(done(grey, [["Color"], ["Desaturate"]], [[0.0], [0.0]]), grey)
    assert torch.equal(done(grey, [["Invert"], [""]], [[0.0], [0.0]]), torch.stack([255 - grey[0], grey[1]]))
