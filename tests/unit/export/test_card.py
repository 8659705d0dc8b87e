from typing import Any

import pytest
from huggingface_hub import ModelCard

from glorasearch.export.card import model_card
from glorasearch.space import Subnet


def test_card():
    subnet = Subnet({("a", "A"): "lora:4", ("b", "A"): "none", ("c", "A"): "none", ("a", "E"): "vector"})
    config = {
        "architecture": "vit_tiny",
        "num_classes": 2,
        "label_names": ["cat", "dog"],
        "pretrained_cfg": {"input_size": [1, 8, 16], "mean": [0.5], "std": [0.25], "license": "mit"},
        "glorasearch": {
            "metrics": {"test_accuracy": 0.96875, "budget": {"max": 10}},
            "statements": ["The winner is level.", "So it is."],
            "provenance": {"data": "x|y", "seed": 3, "train": None},
        },
    }
    card = model_card(config, subnet)
    assert card.startswith("---\nlibrary_name: timm\npipeline_tag: image-classification\n")
    assert '\nlicense: "mit"\n---\n' in card
    assert "\n# vit_tiny, adapted with lora and vector\n" in card
    assert "glora\n" not in card
    assert "Input: 1 x 8 x 16, mean [0.5], std [0.25]. Output: 2 classes: cat, dog." in card
    assert "| test_accuracy | 0.96875 |\n| budget.max | 10 |" in card
    assert "## What can be said\n\n- The winner is level.\n- So it is.\n\n" in card
    assert "| A | `lora:4` in 1, `none` in 2 |\n| E | `vector` in 1 |" in card
    assert "| data | x\\|y |\n| seed | 3 |\n| train | null |" in card
    assert 'timm.create_model("local-dir:PATH", pretrained=True)' in card


def test_sections_without_content_are_left_out():
    config = {
        "architecture": "vit",
        "num_classes": 2,
        "pretrained_cfg": {"input_size": [3, 8, 8]},
        "glorasearch": {"metrics": {}, "statements": [], "provenance": {}},
    }
    card = model_card(config, Subnet({}))
    assert "\n# vit, adapted with a new head alone\n" in card
    assert "## Metrics" not in card
    assert "## What can be said" not in card
    assert "license" not in card


def test_a_licence_that_the_hub_does_not_know_is_named_as_another() -> None:
    config = {
        "architecture": "mobilevit_xxs",
        "num_classes": 2,
        "pretrained_cfg": {"input_size": [3, 8, 8], "license": "cvnets-license"},
        "glorasearch": {"metrics": {}, "statements": [], "provenance": {}},
    }
    data = ModelCard(model_card(config, Subnet({}))).data.to_dict()
    assert (data["license"], data["license_name"]) == ("other", "cvnets-license")


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        (["fourier:9"], "adapted with fourier"),
        (["tsd:2:2", "none", "dash:4:8", "lora:2", "lora:4"], "adapted with dash, lora and tsd"),
    ],
)
def test_it_names_the_methods_that_were_chosen(choices: list[str], said: str) -> None:
    config = {
        "architecture": "vit",
        "num_classes": 2,
        "pretrained_cfg": {"input_size": [3, 8, 8]},
        "glorasearch": {"metrics": {}, "statements": [], "provenance": {}},
    }
    card = model_card(config, Subnet({(str(index), "B"): choice for index, choice in enumerate(choices)}))
    assert f"\n# vit, {said}\n" in card


def test_what_people_wrote_is_not_markup():
    config = {
        "architecture": "vit",
        "num_classes": 2,
        "label_names": ["![x](http://h)", "<b>\nc"],
        "pretrained_cfg": {"input_size": [3, 8, 8]},
        "glorasearch": {"metrics": {}, "statements": [], "provenance": {"data": "pl[ai]n <i>"}},
    }
    card = model_card(config, Subnet({}))
    assert "2 classes: !\\[x\\](http://h), \\<b\\> c." in card
    assert "| data | pl\\[ai\\]n \\<i\\> |" in card


@pytest.mark.parametrize(
    ("reading", "said"),
    [
        (
            {"exif": True, "pixel_range": None},
            "images were turned upright as their EXIF says, by `PIL.ImageOps.exif_transpose`, then converted to RGB",
        ),
        (
            {"exif": False, "pixel_range": [0.0, 4095.0]},
            "images were brought to 8 bits, 0 being black and 4095 white, where a pixel has more, then converted",
        ),
        ({"exif": False, "pixel_range": None}, "images were converted to RGB, also grayscale and palette images."),
        (None, "images were converted to RGB, also grayscale and palette images."),
    ],
)
def test_it_says_what_was_done_to_files_before_the_transform(reading: Any, said: str) -> None:
    own = {"metrics": {}, "statements": [], "provenance": {}, "reading": reading}
    config = {"architecture": "vit", "num_classes": 2, "pretrained_cfg": {"input_size": [3, 8, 8]}, "glorasearch": own}
    card = model_card(config, Subnet({}))
    assert f"Before the transform {said}" in card


def test_it_says_what_to_divide_outputs_by() -> None:
    def card(**metrics: float) -> str:
        own = {"metrics": metrics, "statements": [], "provenance": {}}
        config = {"architecture": "vit", "num_classes": 2, "pretrained_cfg": {"input_size": [3, 8, 8]}}
        return model_card(config | {"glorasearch": own}, Subnet({}))

    assert "temperature" not in card(test_accuracy=0.5)
    before = "Outputs are logits. Divided by the temperature 1.68, which held-out images gave, before the softmax"
    assert f"\n{before} they are probabilities.\n" in card(temperature=1.6817928)
    errors = {"test_calibration_error": 0.1254, "test_calibration_error_tempered": 0.0321}
    said = f"{before} their expected calibration error on the test split is 0.032; as they are, 0.125.\n"
    assert f"\n{said}" in card(temperature=1.6817928, **errors)
