"""A small model of every family of timm, from a backbone with random weights to an export that timm loads."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from timm.models import _registry

from glorasearch.space import SearchSpace

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from family_parts.members import MEMBERS, Member
from family_parts.page import BEGIN, END, PAGE, README, stored, summary, table
from family_parts.trial import ALL_LAYERS, run_member

ALWAYS = {
    "beit": "reads the weight of qkv",
    "byobnet": "branches that are merged for inference",
    "convit": "asks a weight for its device",
    "eva": "rotary positions",
    "levit": "batch norms read flattened outputs",
    "maxxvit": "Conv2dSame",
    "nfnet": "ScaledStdConv2d",
    "resnet": "convolutions and batch norms",
    "vision_transformer_hybrid": "StdConv2d",
    "coat": "modules under several names",
}
"""Families that are tried in every run of the tests, and what they have that others have not."""


def found_by(member: Member) -> None:
    found = run_member(member, SearchSpace.from_dict(ALL_LAYERS))
    assert 0 < found["layers"] <= found["of"]


@pytest.mark.parametrize("member", [m for m in MEMBERS if m.family in ALWAYS], ids=lambda member: member.family)
def test_a_family(member: Member) -> None:
    found_by(member)


@pytest.mark.slow
@pytest.mark.parametrize("member", [m for m in MEMBERS if m.family not in ALWAYS], ids=lambda member: member.family)
def test_any_other_family(member: Member) -> None:
    found_by(member)


def test_there_is_a_member_of_every_family() -> None:
    registered = _registry._module_to_models
    # Other tests of this process may have registered models of their own.
    families = {name: models for name, models in registered.items() if f"timm.models.{name}" in sys.modules}
    assert {member.family for member in MEMBERS} == set(families)
    for member in MEMBERS:
        assert member.name in families[member.family]


def test_readme_and_page_say_what_was_found() -> None:
    """And at least 95 families work."""
    _, _, outcomes = stored()
    assert [one.family for one in outcomes] == [member.family for member in MEMBERS]
    assert sum(not one.problem for one in outcomes) >= 95
    for path, text in ((README, summary()), (PAGE, table())):
        between = re.search(f"{re.escape(BEGIN)}\n(.*?)\n{re.escape(END)}", path.read_text("utf-8"), re.DOTALL)
        assert between is not None
        assert between[1].endswith(text)
