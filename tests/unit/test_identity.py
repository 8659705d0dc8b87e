"""What of a configuration decides the results: neither what is marked as bookkeeping, nor a default that is written."""

from __future__ import annotations

from typing import Annotated, ClassVar

import pytest
from pydantic import Field

from glorasearch.config import Config, Role, Seed
from glorasearch.errors import ConfigError
from glorasearch.identity import digest, identity, identity_of, settings_of


class Part(Config):
    section: ClassVar[str] = "part"
    steps: int = Field(default=3, ge=0)
    sizes: tuple[int, ...] = (1, 2)
    seed: Seed = 0
    strategy: Annotated[str, Role.METHOD] = "one"
    every: Annotated[int, Role.BOOKKEEPING] = 5


class Whole(Config):
    source: str
    seed: Seed = 0
    part: Part = Part()


def test_defaults_and_bookkeeping_do_not_count() -> None:
    assert identity(Whole(source="a")) == {"source": "a"}
    assert identity(Whole(source="a", part=Part(steps=3, sizes=(1, 2), every=9))) == {"source": "a"}
    assert identity(Whole(source="a", part=Part(steps=4, strategy="two"))) == {
        "source": "a",
        "part": {"steps": 4, "strategy": "two"},
    }


def test_the_seed_of_a_section_defaults_to_that_around_it() -> None:
    content = Whole(source="a", seed=2, part=Part(seed=2)).model_dump(mode="json")
    assert identity_of(Whole, content) == {"source": "a", "seed": 2}
    content["part"]["seed"] = 0
    assert identity_of(Whole, content) == {"source": "a", "seed": 2, "part": {"seed": 0}}
    assert identity(Part(seed=1)) == {"seed": 1}
    assert identity_of(Whole, content, without=(Role.SEED, Role.METHOD)) == {"source": "a"}


def test_settings_keep_defaults_and_further_keys() -> None:
    content = Whole(source="a").model_dump(mode="json") | {"further": {"x": 1}}
    assert settings_of(Whole, content) == {
        "source": "a",
        "seed": 0,
        "part": {"steps": 3, "sizes": [1, 2], "strategy": "one"},
        "further": {"x": 1},
    }
    assert identity_of(Whole, content)["further"] == {"x": 1}


def test_the_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_a_copy_with_changes_is_checked_like_a_new_configuration() -> None:
    part = Part(steps=4)
    assert part.replace(every=7) == Part(steps=4, every=7)
    with pytest.raises(ConfigError, match=r"key 'part\.steps': expected at least 0, found -1"):
        part.replace(steps=-1)
    with pytest.raises(ConfigError, match=r"unknown key 'part\.step' \(did you mean 'steps'\?\)"):
        part.replace(step=1)
    with pytest.raises(ConfigError, match=r"key 'source' is missing\nkey 'part\.sizes': expected a list"):
        Whole(part={"sizes": 3})  # type: ignore[call-arg, arg-type]
