"""Adapters that are swapped in one resident model: exact, in any order, from many threads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import timm
import torch
from numpy.random import default_rng
from PIL import Image
from support.exports import adapted, export, toy
from support.models import randomise, tiny_vit
from torch import Tensor, nn

from glorasearch.data import InputSpec, SearchData, SearchSplit, TrainSplit
from glorasearch.errors import BackboneError, ExportError, InputError
from glorasearch.export import Adapter, export_format
from glorasearch.serving import AdapterServer, ServedAdapter
from glorasearch.space import SearchSpace, Subnet, sample
from glorasearch.supernet import Supernet
from glorasearch.tasks import Regress

EVERYTHING = {
    "A": ["none", "vector", "constant", "lora:2"],
    "B": ["none", "constant", "vector", "lora:2", "lora:4", "fourier:30"],
    "C": ["none", "vector", "lora:2"],
    "D": ["none", "constant", "vector"],
    "E": ["none", "vector", "constant"],
}
MIXABLE = {"A": ["none", "vector", "constant"], "B": ["none", "vector", "lora:2", "lora:4"], "E": ["none", "vector"]}


def trained(backbone: nn.Module, seed: int, choices: dict[str, list[str]] = EVERYTHING) -> tuple[Supernet, Subnet]:
    """A supernet with weights of its own, and a subnet of it."""
    supernet = randomise(Supernet(backbone, SearchSpace.from_dict({"name": "toy", "choices": choices})), 0.1, seed)
    return supernet.eval(), sample(supernet.space, default_rng(seed))


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        found: Tensor = model(images)
    return found


class Served:
    """A server with three adapters, and the merged models that they have to be."""

    def __init__(self, kind: str = "vit", choices: dict[str, list[str]] = EVERYTHING, **options: object) -> None:
        self.backbone, self.images = toy(kind)
        self.server = AdapterServer(self.backbone, device="cpu", **options)  # type: ignore[arg-type]
        self.merged: dict[str, nn.Module] = {}
        for seed, name in enumerate("abc"):
            supernet, subnet = trained(self.backbone, seed, choices)
            self.server.add(ServedAdapter.of(supernet, subnet, name=name))
            self.merged[name] = supernet.merged(subnet)

    def check(self, name: str) -> None:
        found = self.server(name, self.images)
        assert torch.equal(found, logits_of(self.merged[name], self.images)), name


@pytest.mark.parametrize("kind", ["vit", "vit_bias_gained", "deit_distilled", "swin", "mixer", "convnext"])
def test_every_adapter_is_its_merged_model_to_the_bit_in_any_order(kind: str) -> None:
    served = Served(kind)
    before = {name: value.clone() for name, value in served.backbone.state_dict().items()}
    first = served.server("a", served.images)
    for name in "abacbcaabc":
        served.check(name)
    assert torch.equal(served.server("a", served.images), first)
    assert served.server.stats.swaps == 10  # not where the adapter was there already
    assert all(torch.equal(value, before[name]) for name, value in served.backbone.state_dict().items())


def test_an_adapter_is_the_exported_model_to_the_bit(tmp_path: Path) -> None:
    backbone, images = toy("vit_bias_gained")
    server = AdapterServer(backbone, device="cpu")
    for seed in range(2):
        supernet, subnet = trained(backbone, seed)
        digest = server.add(ServedAdapter.of(supernet, subnet))
        export(supernet, subnet, images, tmp_path / str(seed))
        loaded = timm.create_model(f"local-dir:{tmp_path / str(seed)}", pretrained=True).eval()
        assert torch.equal(server(digest, images), logits_of(loaded, images))


def test_heads_may_have_other_numbers_of_classes() -> None:
    backbone = tiny_vit()
    server = AdapterServer(backbone, device="cpu")
    images = torch.randn(4, 1, 14, 14)
    for classes in (3, 10, 7):
        own = tiny_vit()
        own.reset_classifier(classes)
        supernet, subnet = trained(own, classes)
        server.add(ServedAdapter.of(supernet, subnet, name=str(classes)))
    assert [server(name, images).shape[1] for name in ("3", "10", "7", "3")] == [3, 10, 7, 3]
    both = server.mixed(["3", "7", "3", "10"], images)
    assert [len(one) for one in both] == [3, 7, 3, 10]


def test_threads_never_see_a_torn_model() -> None:
    served = Served()
    expected = {name: logits_of(model, served.images) for name, model in served.merged.items()}
    start = threading.Barrier(6)

    def ask(number: int) -> list[bool]:
        names = [*default_rng(number).choice(list("abc"), 40)]
        start.wait()
        return [torch.equal(served.server(str(name), served.images), expected[str(name)]) for name in names]

    with ThreadPoolExecutor(6) as pool:
        answers = [right for found in pool.map(ask, range(6)) for right in found]
    assert len(answers) == 240
    assert all(answers)
    assert 3 <= served.server.stats.swaps <= 240


def test_adapters_beyond_the_memory_make_room_and_come_back() -> None:
    served = Served(memory=1)
    for name in "abcab":
        served.check(name)
    stats = served.server.stats
    assert (stats.adapters, stats.made_ready, stats.evicted) == (3, 5, 4)
    assert 0 < stats.ready_bytes < 100_000
    roomy = Served()
    for name in "abcab":
        roomy.check(name)
    assert (roomy.server.stats.made_ready, roomy.server.stats.evicted) == (3, 0)


def test_a_swap_that_fails_leaves_no_half_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served()
    served.check("a")
    layers = list(served.server._resident.layers.values())
    with monkeypatch.context() as patched:

        def out_of_memory(*given: object) -> None:
            raise torch.OutOfMemoryError("no memory")

        patched.setattr(layers[len(layers) // 2], "merge_weight", out_of_memory)
        with pytest.raises(torch.OutOfMemoryError):
            served.server("b", served.images)
    for name in "aba":
        served.check(name)


@pytest.mark.parametrize("kind", ["vit", "vit_bias_gained", "deit_distilled", "swin", "mixer"])
def test_a_batch_of_several_adapters_without_merging(kind: str) -> None:
    served = Served(kind, MIXABLE)
    names = ["b", "a", "c", "a", "b"]
    found = served.server.mixed(names, served.images, "unmerged")
    swaps = served.server.stats.swaps
    again = served.server.mixed(names[::-1], served.images, "unmerged")
    stats = served.server.stats
    assert (stats.unmerged, stats.swaps) == (2, swaps)  # only the first time each was merged, too, to compare
    for order, answers in ((names, found), (names[::-1], again)):
        for place, (name, logits) in enumerate(zip(order, answers, strict=True)):
            alone = logits_of(served.merged[name], served.images)[place]
            torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-5 * float(alone.abs().max()))


@pytest.mark.parametrize("kind", ["vit", "convnext"])
def test_a_batch_of_several_adapters_that_have_to_be_merged(kind: str) -> None:
    served = Served(kind)
    names = ["b", "a", "c", "a", "b"]
    found = served.server.mixed(names, served.images)
    with pytest.raises(InputError, match=r"have to be merged: .* is neither a scale of rows nor a product|is a Conv2d"):
        served.server.mixed(names, served.images, "unmerged")
    assert served.server.stats.unmerged == 0
    for place, (name, logits) in enumerate(zip(names, found, strict=True)):
        together = [at for at, other in enumerate(names) if other == name]
        expected = logits_of(served.merged[name], served.images[together])[together.index(place)]
        assert torch.equal(logits, expected)


def test_how_a_batch_is_computed_depends_on_the_images_of_each_adapter() -> None:
    served = Served(choices=MIXABLE, unmerged_below=2)
    images = served.images[:4]
    served.server.mixed(["a", "a", "b", "b"], images)
    assert served.server.stats.unmerged == 0
    served.server.mixed(["a", "b", "b", "c"], images)
    assert served.server.stats.unmerged == 1
    served.server.mixed(["a", "a", "a", "a"], images)
    assert served.server.stats.unmerged == 1


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("L", (30, 20), 128).save(tmp_path / "grey.png")
    return tmp_path / "grey.png"


def test_image_files_are_read_as_in_the_training(picture: Path, tmp_path: Path) -> None:
    served = Served()
    (tmp_path / "broken.png").write_bytes(b"not a picture")
    good, broken = served.server.predict("a", [picture, tmp_path / "broken.png"], top=2)
    assert (len(good.labels), good.error) == (2, None)
    assert good.probabilities[0] >= good.probabilities[1] > 0
    assert "cannot be read as an image" in str(broken.error)


@pytest.fixture
def served() -> Served:
    return Served()


def test_adapters_are_found_by_name_digest_and_its_beginning(served: Served) -> None:
    digests = [one.digest for one in served.server.adapters]
    assert [served.server.find(one[:8]).name for one in digests] == ["a", "b", "c"]
    assert served.server.find(digests[1]).name == "b"
    with pytest.raises(InputError, match=r"no adapter 'd' is served here.*there are: a, b, c"):
        served.server("d", served.images)
    with pytest.raises(InputError, match="no adapter"):
        served.server.find(digests[0][:3])
    served.server.remove("b")
    with pytest.raises(InputError, match="there are: a, c"):
        served.server("b", served.images)
    served.check("a")


def test_what_cannot_be_served_is_said(served: Served, tmp_path: Path) -> None:
    other = tiny_vit()
    supernet, subnet = trained(other, 0)
    with pytest.raises(BackboneError, match=r"adapter other was trained on the backbone .* and this server holds"):
        served.server.add(ServedAdapter.of(supernet, subnet, name="other"))
    mine, subnet = trained(served.backbone, 5)
    with pytest.raises(InputError, match="another adapter 'a'"):
        served.server.add(ServedAdapter.of(mine, subnet, name="a"))
    with pytest.raises(ExportError):
        served.server.add(tmp_path)
    with pytest.raises(InputError, match=r"images must be \(N, C, H, W\)"):
        served.server("a", served.images[0])
    with pytest.raises(InputError, match="2 adapters for 5 images"):
        served.server.mixed(["a", "b"], served.images)
    with pytest.raises(InputError, match="how is 'quickly'"):
        served.server.mixed(["a"] * 5, served.images, "quickly")  # type: ignore[arg-type]
    for name in "abc":
        served.check(name)


def test_an_exported_adapter_is_served_by_its_digest(tmp_path: Path) -> None:
    own = adapted("vit")
    written = export_format(own, "adapter", tmp_path / "export-adapter")
    server = AdapterServer(own.backbone, device="cpu")
    digest = server.add(tmp_path / "export-adapter")
    assert digest == written.facts["digest"] == server.add(Adapter.load(tmp_path / "export-adapter"))
    assert [one.temperature for one in server.adapters] == [1.5]
    assert torch.equal(server(digest[:10], own.images), logits_of(own.model, own.images))
    assert torch.equal(server.model(digest)(own.images), logits_of(own.model, own.images))
    other = AdapterServer(toy("vit", seed=1)[0], device="cpu")
    with pytest.raises(ExportError, match="the digest of its frozen tensors is"):
        other.add(tmp_path / "export-adapter")


def test_images_that_the_backbone_cannot_take_are_refused_in_words() -> None:
    served = Served(choices=MIXABLE)
    n, channels, height, width = served.images.shape
    other = torch.zeros(n, channels + 2, height, width)
    for images in (other, torch.zeros(n, channels, height + 7, width)):
        size = f"{images.shape[2]} x {images.shape[3]} pixels and {images.shape[1]} channels"
        with pytest.raises(InputError, match=f"cannot take images of {size}"):
            served.server("a", images)
        for how in ("grouped", "unmerged"):
            with pytest.raises(InputError, match=f"cannot take images of {size}"):
                served.server.mixed(["a", "b", *"a" * (n - 2)], images, how)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"images are torch\.uint8; expected normalised ones"):
        served.server("a", served.images.byte())
    for name in "ba":
        served.check(name)


def test_wrong_options_are_refused() -> None:
    for option in ("memory", "unmerged_below"):
        with pytest.raises(InputError, match=f"{option} is -1; expected 0 or more"):
            Served(**{option: -1})
    with pytest.raises(InputError, match="precision is 'fp8'; allowed are "):
        Served(precision="fp8")


def test_numbers_are_served_in_the_units_of_their_targets() -> None:
    """A subnet in memory answers what its export does: its head was trained on standardised targets."""
    backbone, images = toy("vit")
    supernet, subnet = trained(backbone, 0)
    merged = logits_of(supernet.merged(subnet), images).double()
    outputs = merged.shape[1]
    wanted = default_rng(0).normal(1e4, 25.0, (40, outputs))
    task = Regress().fitted(wanted)
    labels, pixels = torch.from_numpy(task.encoded(wanted[: len(images)])), torch.zeros_like(images, dtype=torch.uint8)
    spec, prints = InputSpec.from_backbone(backbone), [bytes([place]) for place in range(len(images))]
    train, search = (kind(pixels, labels, spec, prints, outputs, task=task) for kind in (TrainSplit, SearchSplit))
    data = SearchData(train, search, tuple(map(str, range(outputs))))
    server = AdapterServer(backbone, device="cpu")
    digest = server.add(ServedAdapter.of(supernet, subnet, data))
    assert task.standard is not None
    found = server(digest, images).double()
    assert torch.allclose(found, task.standard.undone(merged), rtol=1e-6)
    assert server.find(digest).task == Regress()
