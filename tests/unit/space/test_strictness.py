"""Every mistake in a search-space file is an error that names the file, the key, what was found and what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from glorasearch.errors import SearchSpaceError
from glorasearch.space import LayerShape, SearchSpace

SpaceWriter = Callable[[str], Path]
REST = '\n[choices]\nB = ["none", "lora:2"]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # unknown keys, at every level
        ("layer = 1" + REST, ["'layer'", "did you mean 'layers'", "budget, choices, description, entangle, groups"]),
        ('[layers]\ninclud = ["*"]' + REST, ["'layers.includ'", "did you mean 'include'", "allowed are exclude, inc"]),
        ('[choices]\nF = ["none"]', ["'choices.F'", "allowed are A, B, C, D, E"]),
        (
            '[[groups]]\nlayers = ["*"]\nrank = ["none"]' + REST,
            ["'groups[0].rank'", "allowed are A, B, C, D, E, layers"],
        ),
        ("[budget]\nmaximum = 3" + REST, ["'budget.maximum'", "allowed are max, max_bytes, min"]),
        # missing keys
        ("", ["'choices'", "missing"]),
        ('[[groups]]\nB = ["none"]' + REST, ["'groups[0].layers'", "missing"]),
        # choices
        ('[choices]\nA = ["fast"]', ["'choices.A'", "'fast'", "none, constant, vector, lora:<rank>"]),
        ('[choices]\nA = ["lora"]', ["'choices.A'", "'lora'", "positive integer", "lora:4"]),
        ('[choices]\nA = ["lora:"]', ["'choices.A'", "'lora:'", "positive integer"]),
        ('[choices]\nA = ["lora:0"]', ["'choices.A'", "'lora:0'", "positive integer"]),
        ('[choices]\nA = ["lora:-1"]', ["'choices.A'", "'lora:-1'", "positive integer"]),
        ('[choices]\nA = ["lora:04"]', ["'choices.A'", "'lora:04'", "positive integer"]),
        ('[choices]\nA = ["lora:²"]', ["'choices.A'", "'lora:²'", "positive integer"]),
        ('[choices]\nA = ["lora:4.0"]', ["'choices.A'", "'lora:4.0'", "positive integer"]),
        (f'[choices]\nA = ["lora:{"9" * 5000}"]', ["'choices.A'", "positive integer"]),
        ('[choices]\nA = ["vector:2"]', ["'choices.A'", "'vector:2'", "takes no argument"]),
        ('[choices]\nA = ["None"]', ["'choices.A'", "'None'", "known are none,"]),
        ('[choices]\nA = [" vector"]', ["'choices.A'", "' vector'"]),
        ('[choices]\nA = ["none", "vector", "none"]', ["'choices.A'", "given twice: none"]),
        ("[choices]\nA = []", ["'choices.A'", "empty", '["none"]']),
        ('[choices]\nA = "vector"', ["'choices.A'", "a list", "'vector'"]),
        ("[choices]\nA = [4]", ["'choices.A[0]'", "a string", "4"]),
        # choices that a support tensor does not have
        ('[choices]\nC = ["none", "constant"]', ["'choices.C'", "'constant'", "none, vector, lora:<rank>"]),
        ('[choices]\nD = ["lora:4"]', ["'choices.D'", "'lora:4'", "none, constant, vector"]),
        ('[choices]\nE = ["lora:4"]', ["'choices.E'", "'lora:4'", "none, constant, vector"]),
        ('[[groups]]\nlayers = ["*"]\nE = ["lora:4"]' + REST, ["'groups[0].E'", "'lora:4'", "none, constant, vector"]),
        # everything else
        ('entangle = "tied"' + REST, ["'entangle'", "'tied'", "'untied' or 'reference'"]),
        ("name = 3" + REST, ["'name'", "a string", "3"]),
        ('layers = "blocks.*"' + REST, ["'layers'", "a table", "'blocks.*'"]),
        ('[layers]\ninclude = "blocks.*"' + REST, ["'layers.include'", "a list", "'blocks.*'"]),
        ("[layers]\ninclude = []" + REST, ["'layers.include'", "1 or more entries"]),
        ('[groups]\nlayers = ["*"]' + REST, ["'groups'", "[[double brackets]]"]),
        ("[[groups]]\nlayers = []" + REST, ["'groups[0].layers'", "1 or more entries"]),
        ("[budget]\nmin = -1" + REST, ["'budget.min'", "at least 0", "-1"]),
        ('[budget]\nmax = "1e5"' + REST, ["'budget.max'", "a whole number", "'1e5'"]),
        ("[budget]\nmax = 1e5" + REST, ["'budget.max'", "a whole number", "100000.0"]),
        ("[budget]\nmax = true" + REST, ["'budget.max'", "a whole number", "True"]),
        ("[budget]\nmin = 30\nmax = 20" + REST, ["'budget'", "min 30 is above max 20"]),
        ("[choices\n", ["not valid TOML", "line 1"]),
        # types of layers, sharing, plugins and their options
        ('[layers]\ntypes = ["conv1d"]' + REST, ["'layers.types[0]'", "'conv1d'", "'linear', 'conv2d' or 'norm'"]),
        ("[layers]\ntypes = []" + REST, ["'layers.types'", "1 or more entries"]),
        ('[[groups]]\nlayers = ["*"]\nshare = "all"' + REST, ["'groups[0].share'", "no choice that layers can share"]),
        ('[[groups]]\nlayers = ["*"]\nshare = "a b"\nA = ["wegeft:2"]' + REST, ["'groups[0].share'", "'a b'"]),
        ("[options.lora]\nscale = 2" + REST, ["'options'", "options.lora: unknown scale", "no options"]),
        ("[options.fourier]\nalpha = 2" + REST, ["options.fourier: unknown alpha", "scale, seed, centre, width"]),
        ("[options.furier]\nscale = 2" + REST, ["options.furier", "no such choice", "fourier"]),
        ('[options.fourier]\nscale = "big"' + REST, ["'options.fourier.scale'", "a number", "'big'"]),
        ('[options.fourier]\nscale = "150"' + REST, ["'options.fourier.scale'", "a number", "'150'"]),
        ("[options.fourier]\nseed = true" + REST, ["'options.fourier.seed'", "a number", "True"]),
        ('[layers]\ntypes = ["linear", "linear"]' + REST, ["'layers.types'", "given twice: linear, linear"]),
        ('plugins = ["nowhere:Choice"]' + REST, ["'plugins'", "'nowhere:Choice'", "package.module:Class"]),
        ('plugins = ["math:pi"]' + REST, ["'plugins'", "'math:pi'", "not a subclass of glorasearch.choices.Choice"]),
        ('plugins = ["math"]' + REST, ["'plugins'", "'math'", "write package.module:Class"]),
    ],
)
def test_the_error_says_file_key_finding_and_remedy(write_space: SpaceWriter, text: str, said: list[str]) -> None:
    path = write_space(text)
    with pytest.raises(SearchSpaceError) as caught:
        SearchSpace.load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    for part in said:
        assert part in message, message


def test_all_mistakes_of_a_file_are_told_at_once(write_space: SpaceWriter) -> None:
    path = write_space('entangle = "tied"\n[choices]\nA = ["fast"]\nF = ["none"]\n')
    with pytest.raises(SearchSpaceError) as caught:
        SearchSpace.load(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{path}: ") for line in lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '[layers]\ninclude = ["blocks.*.proj", "blocks.*.qvk"]' + REST,
            ["layers.include", "'blocks.*.qvk'", "none of 7 layers", "blocks.0.attn.qkv", "blocks.1.attn.qkv"],
        ),
        ('[layers]\nexclude = ["head"]' + REST, ["layers.exclude", "'head'", "none of 7"]),
        ('[[groups]]\nlayers = ["blocks.2.*"]\nB = ["none"]' + REST, ["groups[0].layers", "'blocks.2.*'", "none of 6"]),
        ('[[groups]]\nlayers = ["stem.*"]\nB = ["none"]' + REST, ["groups[0].layers", "'stem.*'", "none of 6"]),
        ('[layers]\ninclude = ["stem.*"]\nexclude = ["stem.proj"]' + REST, ["0 of 7 layers", "layers.exclude"]),
        ("[choices]\n", ["6 of 7 layers", "no support tensor"]),
        ('[layers]\ninclude = ["*.qkv"]\n[choices]\nD = ["vector"]\n', ["2 of 7 layers", "no support tensor"]),
        (
            '[choices]\nB = ["lora:8", "lora:9"]\n',
            ["choices.B", "'lora:9'", "above 8", "blocks.0.attn.qkv (24, 8)", "smaller rank"],
        ),
        ('[choices]\nC = ["lora:9"]\n', ["choices.C", "'lora:9'", "above 8"]),
        ('[choices]\nB = ["fourier:999"]\n', ["choices.B", "'fourier:999'", "above 192", "blocks.0.attn.qkv (24, 8)"]),
        ('[choices]\nB = ["dash:2:99"]\n', ["choices.B", "'dash:2:99'", "directions above", "blocks.0.attn.qkv"]),
        ('[choices]\nA = ["wegeft:9"]\n', ["choices.A", "'wegeft:9'", "above 8", "blocks.0.attn.qkv (24, 8)"]),
        (
            "[budget]\nmin = 1\nmax = 31" + REST,
            ["budget", "between 1 and 31", "from 0 to 352", "nearest to the budget are 0 and 32"],
        ),
        (
            "[budget]\nmin = 353" + REST,
            ["budget", "no subnet has at least 353 trainable", "from 0 to 352", "nearest to the budget are 352"],
        ),
    ],
)
def test_what_does_not_fit_the_backbone(
    write_space: SpaceWriter, layers: list[LayerShape], text: str, said: list[str]
) -> None:
    path = write_space(text)
    space = SearchSpace.load(path)
    with pytest.raises(SearchSpaceError) as caught:
        space.bind(layers)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    for part in said:
        assert part in message, message


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"include": ["layer1.*"]}, "layers.include: pattern 'layer1.*' matches none of 1 layers"),
        (
            {"include": ["layer1.*"], "types": ["conv2d"], "exclude": ["fc"]},
            "layers.exclude: pattern 'fc' matches none",
        ),
    ],
)
def test_layers_of_another_type_are_named_with_the_key_that_has_them(keys: dict[str, list[str]], said: str) -> None:
    layers = [LayerShape("fc", 64, 64), LayerShape("layer1.0.conv1", 64, 64, bias=False, kind="conv2d")]
    space = SearchSpace.from_dict({"name": "mine", "layers": keys, "choices": {"B": ["none", "lora:2"]}})
    with pytest.raises(SearchSpaceError) as caught:
        space.bind(layers)
    other = "fc" if "exclude" in keys else "layer1.0.conv1"
    for part in (said, f'matches 1 of another type, such as {other}: set layers.types = ["linear", "conv2d"]'):
        assert part in str(caught.value)


def test_a_backbone_without_linear_layers() -> None:
    with pytest.raises(SearchSpaceError, match="'@body' takes none of 0 layers; there are no such layers"):
        SearchSpace.load("lora").bind([])


def test_a_name_that_is_neither_file_nor_shipped(tmp_path: Path) -> None:
    with pytest.raises(
        SearchSpaceError, match=r"no search space 'gloria'.*shipped are bitfit, convnext_glora, everything, fourierft,"
    ):
        SearchSpace.load("gloria")
    with pytest.raises(SearchSpaceError, match="neither a file nor a shipped space"):
        SearchSpace.load(tmp_path)
    with pytest.raises(SearchSpaceError, match="neither a file nor a shipped space"):
        SearchSpace.load("../search_spaces/lora")


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SearchSpaceError, match=r"mine\.toml: not valid TOML"):
        SearchSpace.load(path)
