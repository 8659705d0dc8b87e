"""An adapter without its backbone: it gives the merged model again, on that backbone and on no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
from support.exports import MODELS, adapted, toy

from glorasearch.errors import ExportError
from glorasearch.export import Adapter, export_format
from glorasearch.export.folder import MANIFEST_NAME
from glorasearch.space import SUPPORT_TENSORS


@pytest.mark.parametrize("name", MODELS)
def test_it_gives_the_merged_model_again(name: str, tmp_path: Path) -> None:
    own = adapted(name)
    written = export_format(own, "adapter", tmp_path / "a")
    assert written.max_abs_diff <= 1e-3 * float(own.active(own.images).detach().abs().max())
    adapter = Adapter.load(tmp_path / "a")
    merged, wanted = adapter.model(own.backbone).state_dict(), own.model.state_dict()
    assert merged.keys() == wanted.keys()
    for key, value in wanted.items():
        torch.testing.assert_close(merged[key], value, rtol=0, atol=1e-6)
    assert (adapter.subnet, adapter.temperature, len(adapter.class_names)) == (own.subnet, 1.5, 10)
    assert adapter.backbone_digest == own.backbone_digest
    trained = sum(value.numel() for value in own.supernet.adapter_state().values())
    assert 0 < sum(value.numel() for value in adapter.tensors.values()) < trained


def test_of_a_backbone_with_another_head(tmp_path: Path) -> None:
    own = adapted("vit")
    export_format(own, "adapter", tmp_path / "a")
    architecture, args, _ = MODELS["vit"]
    other = timm.create_model(architecture, num_classes=3, **args).eval()
    other.load_state_dict({k: v for k, v in own.backbone.state_dict().items() if "head" not in k}, strict=False)
    supernet = Adapter.load(tmp_path / "a").supernet(other)
    assert supernet.model.blocks[0].attn.qkv.base.weight.data_ptr() == other.blocks[0].attn.qkv.weight.data_ptr()
    with torch.no_grad():
        torch.testing.assert_close(supernet.merged(own.subnet)(own.images), own.active(own.images), rtol=0, atol=1e-4)
    assert other(own.images).shape[1] == 3


def test_other_backbones_and_altered_files_are_refused(tmp_path: Path) -> None:
    own = adapted("vit")
    export_format(own, "adapter", tmp_path / "a")
    adapter = Adapter.load(tmp_path / "a")
    with pytest.raises(ExportError, match="the digest of its frozen tensors is"):
        adapter.model(toy("vit", seed=1)[0])
    with pytest.raises(ExportError, match="is another"):
        adapter.model(toy("mixer")[0])
    manifest = tmp_path / "a" / MANIFEST_NAME
    content = json.loads(manifest.read_text())
    layer = next(iter(content["subnet"]))
    for changed, said in (
        (content | {"num_classes": 9}, "was altered"),
        (content | {"subnet": content["subnet"] | {layer: dict.fromkeys(SUPPORT_TENSORS, "none")}}, "was altered"),
        (content | {"format_version": 2}, "this glorasearch reads 1"),
        (content | {"plugins": {"os:system": None}}, "if you trust it"),
        ({key: value for key, value in content.items() if key != "task"}, "is damaged: KeyError: 'task'"),
    ):
        manifest.write_text(json.dumps(changed))
        with pytest.raises(ExportError, match=said):
            Adapter.load(tmp_path / "a")


def test_nothing_but_an_adapter_is_replaced(tmp_path: Path) -> None:
    own, place = adapted("vit"), tmp_path / "a"
    place.mkdir()
    (place / "mine.txt").write_text("mine")
    with pytest.raises(ExportError, match="exists and is no export of glorasearch"):
        export_format(own, "adapter", place)
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "mine.txt"]
    (place / "mine.txt").unlink()
    first = export_format(own, "adapter", place)
    assert export_format(own, "adapter", place).sha256 == first.sha256
    other = tmp_path / "file"
    other.write_text("mine")
    with pytest.raises(ExportError, match="is no folder"):
        export_format(own, "adapter", other)
    (place / MANIFEST_NAME).write_text('{"format": "onnx"}')
    with pytest.raises(ExportError, match="an export of the format onnx"):
        export_format(own, "adapter", place)
