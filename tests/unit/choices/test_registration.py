"""Plugins as they are registered: what is wrong with a class, its module or its parts, and the digest of its code."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Generator, Tensor

from glorasearch.choices import (
    CHOICES,
    Choice,
    Contribution,
    Part,
    Site,
    plugin_sources,
    register,
    register_plugin,
)
from glorasearch.errors import SearchSpaceError
from glorasearch.space import SearchSpace
from glorasearch.supernet import Supernet

MakeSupernet = Callable[..., Supernet]


@pytest.fixture
def table() -> Iterator[None]:
    """What is registered in a test is gone after it."""
    known = dict(CHOICES)
    yield
    CHOICES.clear()
    CHOICES.update(known)


def halves(value: Tensor, generator: Generator) -> None:
    value.fill_(0.5)


class Base(Choice):
    """One part named by the subclass, which shifts the weight."""

    name = "mine"
    tensors = "B"
    part: ClassVar[str] = "mine"

    @classmethod
    def parts(cls, site: Site, **largest: int) -> dict[str, Part]:
        return {cls.part: Part((site.rows,), halves), f"{cls.part}_gain": Part((1,))}

    @classmethod
    def contribution(cls, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> Contribution:
        return Contribution(shift=parts[cls.part] * parts[f"{cls.part}_gain"])


def test_a_plugin(table: None, make_supernet: MakeSupernet) -> None:
    register(type("Mine", (Base,), {}))
    supernet = make_supernet({"B": ["none", "mine"]})
    supernet.adapter_parameters()["blocks.0.mlp.fc1.B.mine_gain"].data.fill_(1.0)
    weight, _ = supernet.merged_layer("blocks.0.mlp.fc1", supernet.space.largest())
    assert torch.equal(weight, supernet.frozen_state()["blocks.0.mlp.fc1.weight"] + 0.5)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"name": "my:name"}, "write letters, digits, _ and -"),
        ({"name": "lora"}, "there is a choice 'lora' already"),
        ({"name": "both", "shareable": True, "watches": True}, "'both' is shareable and watches"),
        ({"name": "nowhere", "tensors": "F"}, "'nowhere': tensors is 'F'; write some of ABCDE"),
        ({"name": "word", "arguments": "rank"}, r"'word': arguments is 'rank'; write a tuple of names, such as \("),
        ({"name": "list", "arguments": ["rank"]}, "'list': arguments is .'rank'.; write a tuple of names"),
        ({"name": "numbers", "arguments": (4,)}, r"'numbers': arguments is \(4,\); write a tuple of names"),
        ({"name": 3}, "name 3: write letters"),
    ],
)
def test_classes_that_contradict_themselves(table: None, content: dict[str, Any], said: str) -> None:
    with pytest.raises(SearchSpaceError, match=said):
        register(type("Made", (Base,), content))


def test_names_of_plugins(table: None) -> None:
    for path, said in (
        ("glorasearch.choices", "write package.module:Class|cannot be imported|is not a subclass"),
        ("nowhere.at.all:Thing", "cannot be imported"),
        ("glorasearch.choices:Part", "is not a subclass"),
        ("glorasearch.choices:Choice", "is not a complete choice: contribution, name, parts, tensors missing"),
    ):
        with pytest.raises(SearchSpaceError, match=said):
            register_plugin(path)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("class Mine(:", "its module raises SyntaxError: "),
        ("1 / 0", "its module raises ZeroDivisionError: "),
        ("undefined", "its module raises NameError: "),
        ("import nowhere_at_all", "No module named 'nowhere_at_all'; write package.module:Class"),
    ],
)
def test_modules_that_cannot_be_imported(
    table: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, said: str
) -> None:
    (tmp_path / "broken.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    content = {"name": "mine", "choices": {"B": ["none"]}, "plugins": ["broken:Mine"]}
    with pytest.raises(
        SearchSpaceError, match=f"'plugins': plugin 'broken:Mine' cannot be imported: .*{re.escape(said)}"
    ):
        SearchSpace.from_dict(content)


CODE = "from glorasearch.choices.glora import Vector\n\nclass Coded(Vector):\n    name = 'coded'\n    tensors = 'B'\n"


def test_the_code_of_a_plugin_has_a_digest(table: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    digests = []
    for module, code in (("coded_1", CODE), ("coded_2", CODE + "# other\n"), ("coded_3", CODE)):
        (tmp_path / f"{module}.py").write_text(code)
        CHOICES.pop("coded", None)
        ((path, digest),) = plugin_sources([f"{module}:Coded"]).items()
        assert path == f"{module}:Coded"
        assert plugin_sources([path]) == {path: digest}
        digests.append(digest)
    assert digests[0] == digests[2] != digests[1]


def test_a_base_of_another_file_is_code_of_the_plugin(
    table: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "base.py").write_text(CODE)
    (tmp_path / "heir.py").write_text("import base\n\nclass Heir(base.Coded):\n    name = 'heir'\n")
    digests = []
    for addition in ("", "# other\n"):
        (tmp_path / "base.py").write_text(CODE + addition)
        digests += plugin_sources(["heir:Heir"]).values()
        for module in ("heir", "base"):
            sys.modules.pop(module)
        CHOICES.pop("heir")
        importlib.invalidate_caches()
    assert None not in digests
    assert digests[0] != digests[1]


@pytest.mark.parametrize(
    ("tensor", "part", "others", "said"),
    [
        ("B", "down", ["lora:1"], "choice 'own_down' has a part 'down', and so has 'lora'"),
        ("A", "phi", ["wegeft:1"], "choice 'own_phi' has a part 'phi', and so has 'wegeft'"),
        (
            "B",
            "dash_draws",
            ["dash:1:1"],
            "choice 'own_dash_draws' has a part 'dash_draws', and so has 'its own count'",
        ),
        ("B", "forward", [], "has a part 'forward', which is not a usable name"),
        ("B", "a.b", [], "has a part 'a.b', which is not a usable name"),
    ],
)
def test_parts_of_one_name(
    table: None, make_supernet: MakeSupernet, tensor: str, part: str, others: list[str], said: str
) -> None:
    """Also where a group owns the other's, and where it is a count or a method of the module."""
    name = f"own_{part.replace('.', '_')}"
    register(type("Own", (Base,), {"name": name, "part": part, "tensors": tensor}))
    groups = [{"layers": ["*.proj"], tensor: [*others, name], "share": "all"}] if tensor == "A" else []
    for shared in (groups, []):
        with pytest.raises(SearchSpaceError, match=said):
            make_supernet({tensor: ["none", *others, name]}, groups=shared)
