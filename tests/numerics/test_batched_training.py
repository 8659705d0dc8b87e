"""Batched training of M models gives what M separate trainings in plain PyTorch give.

The reference forms each weight from the equations of the support tensors, holds only the tensors that its own subnet
has, and steps them with `torch.optim.AdamW`. (Adam divides a gradient by its size, so rounding in a gradient near
zero shows: the tolerances are those of float64 rounding after that.)
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.func import functional_call

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts" / "search_quality"))

from batched import BatchedTraining
from batched_model import BatchedModel
from layout import Layout, Stack
from shape import Shape

CHOICES = {
    "A": ["none", "constant", "vector", "lora:2", "lora:4", "wegeft:2", "wegeft:3"],
    "B": ["none", "constant", "vector", "lora:2", "lora:3"],
    "C": ["none", "vector", "lora:2"],
    "D": ["none", "constant", "vector"],
    "E": ["none", "constant", "vector"],
}
NORMS = {"A": ["none", "vector"], "E": ["none", "vector"]}
MODELS, STEPS, BATCH, CLASSES, WIDTH = 7, 6, 5, 4, 12
Key = tuple[str, str]


def backbone() -> VisionTransformer:
    torch.manual_seed(0)
    model = VisionTransformer(img_size=8, patch_size=4, embed_dim=WIDTH, depth=2, num_heads=2, num_classes=0)
    model = model.double().eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def pieces(layout: Layout, row: Tensor) -> dict[Key, Tensor]:
    """Views into a row by (layer, part)."""
    return {
        (name, part): row[segment.offset : segment.offset + math.prod(segment.shape)].view(segment.shape)[index]
        for stack in layout.stacks
        for part, segment in stack.segments.items()
        for index, name in enumerate(stack.names)
    }


def merged(stack: Stack, name: str, w0: Tensor, b0: Tensor, parts: dict[Key, Tensor]) -> tuple[Tensor, Tensor]:
    """Weight and bias of a layer, by the equations."""
    own = {part: value for (layer, part), value in parts.items() if layer == name}
    if stack.kind == "norm":
        return w0 + w0 * own.get("A.vector", 0), b0 + own.get("E.vector", 0)
    weight, bias = w0, b0
    if "A.down" in own:
        weight = weight + w0 * (own["A.down"] @ own["A.up"])
    if "A.vector" in own:
        weight = weight + w0 * own["A.vector"][:, None]
    if "A.constant" in own:
        weight = weight + w0 * own["A.constant"]
    if "A.phi" in own:
        weight = weight + w0 @ own["A.phi"] @ own["A.psi"]
    if "B.down" in own:
        weight = weight + own["B.down"] @ own["B.up"]
    if "B.vector" in own:
        weight = weight + own["B.vector"][:, None]
    if "B.constant" in own:
        weight = weight + own["B.constant"]
    for part in ("D.vector", "D.constant"):
        bias = bias + b0 * own.get(part, 0)
    for part in ("E.vector", "E.constant"):
        bias = bias + own.get(part, 0)
    if "C.vector" in own:
        bias = bias + w0 @ own["C.vector"]
    if "C.down" in own:
        bias = bias + w0 @ (own["C.down"] @ own["C.up"])[:, 0]
    return weight, bias


def train_alone(
    layout: Layout, start: Tensor, mask: Tensor, order: Tensor, images: Tensor, labels: Tensor, recipe: dict[str, float]
) -> Tensor:
    """The row after a training of one model in its own loop."""
    model = backbone()
    frozen = {name: value.detach() for name, value in model.state_dict().items()}
    row = start.clone()
    used = {key: kept.double() for key, kept in pieces(layout, mask).items() if kept.any()}
    leaves = {key: pieces(layout, row)[key].clone().requires_grad_() for key in used}
    rates = dict.fromkeys(leaves, recipe["factor"])
    for layer, part in leaves:
        if layer == "head":
            rates[layer, part] = recipe["head"]
        elif part.endswith(("vector", "constant")):
            rates[layer, part] = recipe["vector"]
    groups = [{"params": [leaf], "peak": rates[key]} for key, leaf in leaves.items()]
    adamw = torch.optim.AdamW(groups, weight_decay=recipe["decay"])
    steps, warmup = int(recipe["steps"]), recipe["warmup"]
    for step in range(steps):
        progress = (step - warmup) / max(1, steps - warmup)
        factor = (step + 1) / (warmup + 1) if step < warmup else 0.5 * (1 + math.cos(math.pi * progress))
        for group in adamw.param_groups:
            group["lr"] = group["peak"] * factor
        parts = {key: leaf * used[key] for key, leaf in leaves.items()}
        state = dict(frozen)
        for stack in layout.stacks:
            for name in stack.names:
                if stack.kind != "head":
                    w0, b0 = frozen[f"{name}.weight"], frozen[f"{name}.bias"]
                    state[f"{name}.weight"], state[f"{name}.bias"] = merged(stack, name, w0, b0, parts)
        features = functional_call(model, state, (images[order[step]],))
        logits = features @ parts["head", "head.weight"].T + parts["head", "head.bias"]
        loss = F.cross_entropy(logits, labels[order[step]], label_smoothing=recipe["smoothing"])
        adamw.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(leaves.values()), 1.0)
        adamw.step()
    for key, view in pieces(layout, row).items():
        if key in leaves:
            view[used[key].bool()] = leaves[key].detach()[used[key].bool()]
    return row


@pytest.mark.parametrize("compiled", [False, True])
def test_models_side_by_side_equal_models_alone(compiled: bool) -> None:
    """Mixed choices, rates, decay, smoothing, lengths, warm-ups and orders; float64."""
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(1)
    model = backbone()
    layout = Layout(model, CHOICES, classes=CLASSES, head_in=WIDTH, norm_choices=NORMS)
    codes = torch.tensor(
        [[rng.integers(len(layout.options(gene))) for gene in range(len(layout.genes))] for _ in range(MODELS)]
    )
    codes[0] = 0  # one trains its head alone
    start = torch.stack([layout.start(generator) for _ in range(MODELS)])
    start += 0.1 * torch.randn(start.shape, dtype=start.dtype, generator=generator)  # no zeros: every gradient counts
    images = torch.randn(20, 3, 8, 8, dtype=torch.float64, generator=generator)
    labels = torch.randint(CLASSES, (20,), generator=generator)
    rates = torch.tensor(rng.uniform(1e-3, 1e-2, (MODELS, 3)))
    decay, smoothing = torch.tensor(rng.uniform(0, 0.1, MODELS)), torch.tensor(rng.uniform(0, 0.2, MODELS))
    steps, warmup = torch.tensor([6.0, 6, 5, 4, 6, 3, 6]), torch.tensor([2.0, 0, 1, 2, 3, 1, 2])
    order = torch.tensor(rng.integers(0, 20, (STEPS, MODELS, BATCH)))
    together = BatchedTraining(
        BatchedModel(model, layout, dtype=torch.float64),
        Shape(MODELS, batch=BATCH, steps=STEPS),
        images,
        F.one_hot(labels, CLASSES).double(),
        device="cpu",
        dtype=torch.float64,
        compiled=compiled,
    )
    together.load(
        start=start,
        codes=codes,
        rates=rates,
        image_order=order,
        steps=steps,
        warmup=warmup,
        decay=decay,
        smoothing=smoothing,
    )
    together.run()
    masks = layout.mask(codes)
    for number in range(MODELS):
        recipe = {
            "factor": float(rates[number, 0]),
            "vector": float(rates[number, 1]),
            "head": float(rates[number, 2]),
            "decay": float(decay[number]),
            "smoothing": float(smoothing[number]),
            "steps": float(steps[number]),
            "warmup": float(warmup[number]),
        }
        row = train_alone(layout, start[number], masks[number], order[:, number], images, labels, recipe)
        used = masks[number].bool()
        assert (row[used] - start[number][used]).abs().max() > 1e-3
        torch.testing.assert_close(together.theta.detach()[number][used], row[used], rtol=1e-6, atol=1e-8)


def test_paths_of_a_supernet_share_one_row() -> None:
    """A supernet of three paths a step takes the gradient of the mean of their losses."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(20, 3, 8, 8, dtype=torch.float64, generator=generator)
    targets = F.one_hot(torch.randint(CLASSES, (20,), generator=generator), CLASSES).double()

    def train(paths: int, codes: Tensor, order: Tensor) -> Tensor:
        model = backbone()
        layout = Layout(model, CHOICES, classes=CLASSES, head_in=WIDTH)
        start = layout.start(torch.Generator().manual_seed(4))[None]
        training = BatchedTraining(
            BatchedModel(model, layout, dtype=torch.float64),
            Shape(1, paths, BATCH, STEPS, drawn=True),
            images,
            targets,
            device="cpu",
            dtype=torch.float64,
        )
        training.load(start=start, codes=codes, rates=torch.full((1, 3), 1e-2), image_order=order, warmup=1.0)
        training.run()
        return training.theta.detach()

    genes = len(Layout(backbone(), CHOICES, classes=CLASSES, head_in=WIDTH).genes)
    codes = torch.randint(3, (STEPS, 1, genes), generator=generator)
    order = torch.randint(20, (STEPS, 1, BATCH), generator=generator)
    once, thrice = train(1, codes, order), train(3, codes.expand(-1, 3, -1), order.expand(-1, 3, -1))
    torch.testing.assert_close(thrice, once, rtol=1e-8, atol=1e-10)
