"""PEFT loads what is exact and merges it to the exported weights; what is not exact is refused, or measured."""

from __future__ import annotations

import json
from pathlib import Path

import peft
import pytest
import timm
import torch
from support.exports import FOLDED, MODELS, adapted

from glorasearch.errors import ExportError, InputError
from glorasearch.export import export_format
from glorasearch.export.formats import FORMATS, Options
from glorasearch.export.peft_adapter import MERGE_FIRST
from glorasearch.export.timm_directory import timm_state

LORA = {
    "A": ["none"],
    "B": ["lora:2", "lora:4", "vector", "constant"],
    "C": ["none"],
    "D": ["none", "vector"],
    "E": ["none", "vector"],
}
TOYS = MODELS | FOLDED
BIASED = ("vit_bias_gained", "swin_bias_gained")


@pytest.mark.parametrize("name", sorted(TOYS.keys() - set(BIASED)))
def test_it_merges_to_the_exported_weights(name: str, tmp_path: Path) -> None:
    own = adapted(name, LORA)
    export_format(own, "peft", tmp_path / "p")
    architecture, args, _ = TOYS[name]
    torch.manual_seed(0)  # as the backbone; another head
    backbone = timm.create_model(architecture, num_classes=10, **args).eval()
    for head in own.supernet.heads:
        torch.nn.init.normal_(backbone.get_submodule(head).weight)
    merged = peft.PeftModel.from_pretrained(backbone, str(tmp_path / "p")).merge_and_unload().state_dict()
    wanted, _ = timm_state(own.model, own.facts, own.input_size)
    assert merged.keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(merged[key], value, rtol=0, atol=1e-5 * max(1.0, float(value.abs().max())))


@pytest.mark.parametrize(("choices", "bias"), [({"E": ["none"], "D": ["none"]}, "none"), ({"B": ["none"]}, "all")])
def test_what_is_stored_of_biases(choices: dict[str, list[str]], bias: str, tmp_path: Path) -> None:
    export_format(adapted("vit", LORA | choices), "peft", tmp_path / "p")
    assert json.loads((tmp_path / "p" / "adapter_config.json").read_text())["bias"] == bias


def test_what_is_computed_elsewhere_is_to_be_merged_first(tmp_path: Path) -> None:
    for name, notes in (("vit", []), ("beit", [MERGE_FIRST])):  # which reads the weight of qkv, and does not call it
        assert export_format(adapted(name, LORA), "peft", tmp_path / name).facts["notes"] == notes
    assert MERGE_FIRST in (tmp_path / "beit" / "README.md").read_text()


def test_what_peft_cannot_hold_is_refused_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    own = adapted("vit", LORA)
    monkeypatch.setattr(own.supernet, "heads", ("blocks",))  # as where names of layers end like those of others
    with pytest.raises(InputError, match="format peft: PEFT cannot adapt vit_tiny_patch16_224"):
        FORMATS["peft"].check(own, Options())


def test_genes_without_such_a_form_are_named(tmp_path: Path) -> None:
    own = adapted("vit")
    scaled = [
        f"{layer}.A = {choice}" for (layer, tensor), choice in own.subnet.items() if tensor == "A" and choice != "none"
    ]
    with pytest.raises(InputError, match=r"is not LoRA with biases: .*--lossy-rank R") as refused:
        FORMATS["peft"].check(own, Options())
    assert len(scaled) > 2
    assert all(one in str(refused.value) for one in scaled)
    for name in BIASED:
        with pytest.raises(InputError, match=r"\.E = vector.* give a bias to layers that have none"):
            FORMATS["peft"].check(adapted(name, LORA | {"E": ["vector"]}), Options(lossy_rank=4))
    assert not list(tmp_path.iterdir())


def test_an_approximation_says_what_it_costs(tmp_path: Path) -> None:
    own, errors = adapted("vit"), []
    for rank in (1, 12, 24):
        facts = export_format(own, "peft", tmp_path / f"p{rank}", Options(lossy_rank=rank)).facts
        errors.append(facts["lossy"]["weight_error"])
        model = peft.PeftModel.from_pretrained(adapted("vit").backbone, str(tmp_path / f"p{rank}")).merge_and_unload()
        wanted = own.active(own.images)
        with torch.no_grad():
            off = float((model(own.images) - wanted).abs().max() / wanted.abs().max())
        assert off == pytest.approx(facts["lossy"]["output_error"], rel=1e-3, abs=1e-5)
        assert f"rank {rank} approximates" in (tmp_path / f"p{rank}" / "README.md").read_text()
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-6  # of full rank


def test_other_weights_are_not_passed_off_as_an_export(tmp_path: Path) -> None:
    own = adapted("vit", LORA)
    export_format(own, "peft", tmp_path / "p")
    other = adapted("vit", LORA | {"B": ["lora:4"]})
    with pytest.raises(ExportError, match=r"PEFT (merges|cannot load)"):
        FORMATS["peft"].load(tmp_path / "p", other)
