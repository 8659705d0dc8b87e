"""What glorasearch's step is compared with computes what it says, and the table is made of what was measured."""

from __future__ import annotations

import json

import numpy as np
import pytest
import timm
import torch
from torch import nn

from glorasearch.fused.bank import storages
from glorasearch.space import SearchSpace, sample
from glorasearch.supernet import Supernet


def tiny() -> nn.Module:
    torch.manual_seed(0)
    arguments = {"img_size": 16, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 5}
    return timm.create_model("vit_tiny_patch16_224", **arguments).eval()


def test_the_published_arithmetic_is_that_of_the_supernet(benches) -> None:
    """Both forms of it, logits and gradients, for subnets with every kind of choice."""
    torch.manual_seed(1)
    supernet = Supernet(tiny(), SearchSpace.load("glora_medium")).eval()
    with torch.no_grad():
        for layer in supernet.adapted.values():
            for value in storages(layer).values():
                value.normal_(std=0.3)
    published = [
        benches("peer_models").PublishedGlora(supernet, static=static, trained=torch.float32)
        for static in (False, True)
    ]
    images, rng = torch.randn(3, 3, 16, 16), np.random.default_rng(0)
    for net in [sample(supernet.space, rng) for _ in range(6)]:
        with supernet.activate(net):
            expected = supernet(images)
            supernet.zero_grad()
            expected.logsumexp(1).sum().backward()
        own = {name: storages(layer) for name, layer in supernet.adapted.items()}
        for model in published:
            model.zero_grad()
            model.draw(net)
            found = model(images)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
            found.logsumexp(1).sum().backward()
            for name, layer in model.layers.items():
                for (tensor, part), value in own[name].items():
                    got, wanted = layer.parts[f"{tensor}_{part}"].grad, value.grad
                    zero = torch.zeros_like(value)
                    torch.testing.assert_close(
                        zero if got is None else got, zero if wanted is None else wanted, rtol=1e-3, atol=1e-4
                    )


def test_a_tiny_run_writes_each_peer_and_the_table_is_made_of_it(benches, tmp_path, monkeypatch, capsys) -> None:
    bench = benches("bench_peers")
    path, page = tmp_path / "peers.json", tmp_path / "page.md"
    program = ["bench_peers.py", "--device", "cpu", "--size", "tiny", "--repeats", "1", "--json", str(path)]
    monkeypatch.setattr("sys.argv", program)
    bench.main()
    rows = json.loads(path.read_text("utf-8"))["rows"]
    assert {row["peer"] for row in rows} == set(bench.NAMES)
    assert len(rows) == len(bench.CPU_GRID)
    assert all(row["measured"] > 0 and row["images_per_second"] == 8 / row["measured"] * 1e3 for row in rows)

    page.write_text(f"before\n{bench.BEGIN}\nold\n{bench.END}\nafter\n", "utf-8")
    monkeypatch.setattr("sys.argv", ["bench_peers.py", "--table", str(path), "--page", str(page)])
    bench.main()
    text = page.read_text("utf-8")
    assert text.startswith(f"before\n{bench.BEGIN}\n")
    assert text.endswith(f"{bench.END}\nafter\n")
    assert "old" not in text
    fastest = min(row["measured"] for row in rows if row["peer"] == "glora")
    assert f"| GLoRA as published | {fastest:.3g} ms |" in text


def test_a_page_without_marks_is_refused(benches, tmp_path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n", "utf-8")
    with pytest.raises(ValueError, match="peers: begin"):
        benches("bench_peers").write_into(page, "table")


def test_rows_that_were_measured_stand_in_the_file_when_a_bench_is_cut_off(benches, tmp_path) -> None:
    table = benches("table")

    class CutOffError(Exception):
        pass

    def rows():
        yield table.Row(what="first", measured=1.0, unit="ms")
        raise CutOffError

    options = type("Options", (), {"json": tmp_path / "rows.json"})
    with pytest.raises(CutOffError):
        table.finish(rows(), options)
    assert [row["what"] for row in json.loads(options.json.read_text("utf-8"))["rows"]] == ["first"]
