"""Pretrain the small vision transformer that `glorasearch quickstart` adapts, and write it as a timm directory.

One command makes the asset again, from the four `idx.gz` files of Fashion-MNIST (Debian: `dataset-fashion-mnist`)::

    python scripts/pretrain_quickstart_backbone.py --data /usr/share/datasets/fashion-mnist

The result, `glorasearch/assets/vit_fashion_mnist/`, is what `timm.create_model("local-dir:<path>", pretrained=True)`
loads. Training is seeded; threads and processor decide the last bits, so another machine gives the same accuracy within
noise and not the same digest.
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import hashlib
import json
import math
import platform
import shlex
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

ARCHITECTURE = "vit_tiny_patch16_224"
MODEL_ARGS: dict[str, Any] = {
    "img_size": 28, "patch_size": 7, "in_chans": 1, "embed_dim": 96, "depth": 6, "num_heads": 3, "num_classes": 10,
}  # fmt: skip
MEAN, STD = 0.2860, 0.3530
CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
DEFAULT_OUTPUT = Path(__file__).resolve().parent.parent / "glorasearch" / "assets" / "vit_fashion_mnist"
SIZE_LIMIT = 2_000_000  # bytes, all files of the asset together
LABEL_SMOOTHING = 0.1
WEIGHT_DECAY = 0.05
WARMUP_EPOCHS = 1.0
AUGMENTATION = (
    "horizontal flip (p 0.5), rotation up to 12°, scale 0.85 to 1.15, shear up to 0.1, shift up to 2.5 pixels, "
    "contrast 0.7 to 1.3, one erased rectangle (p 0.25)"
)

LICENCE = """The MIT License (MIT)

Copyright (c) 2017 Zalando SE, https://tech.zalando.com

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """The array of one gzip-compressed IDX file of unsigned bytes."""
    try:
        raw = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        sys.exit(f"{path}: no such file. Install dataset-fashion-mnist (Debian), or give its folder with --data.")
    zeros, kind, dimensions = struct.unpack(">HBB", raw[:4])
    if zeros != 0 or kind != 8:
        sys.exit(f"{path}: not an IDX file of unsigned bytes (magic number {raw[:4].hex()}).")
    shape = struct.unpack(f">{dimensions}I", raw[4 : 4 + 4 * dimensions])
    return np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def read_split(folder: Path, prefix: str) -> tuple[Tensor, Tensor]:
    """Images `(n, 1, 28, 28)` in [0, 1] and labels `(n,)`."""
    images = torch.tensor(read_idx(folder / f"{prefix}-images-idx3-ubyte.gz")).unsqueeze(1).float().div_(255)
    labels = torch.tensor(read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz")).long()
    return images, labels


def normalise(images: Tensor) -> Tensor:
    return (images - MEAN) / STD


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Random flips, small affine maps, contrast and erasing of a batch `(n, 1, h, w)` in [0, 1]."""
    n, _, height, width = images.shape

    def uniform(low: float, high: float) -> Tensor:
        return torch.rand(n, generator=generator).mul_(high - low).add_(low)

    angle, scale = uniform(-12, 12).mul_(math.pi / 180), uniform(0.85, 1.15)
    shear, flip = uniform(-0.1, 0.1), uniform(0, 1).lt(0.5).float().mul_(-2).add_(1)
    shift_x, shift_y = uniform(-2.5, 2.5) * 2 / width, uniform(-2.5, 2.5) * 2 / height
    cos, sin = angle.cos() / scale, angle.sin() / scale
    theta = torch.stack([flip * cos, shear - sin, shift_x, flip * sin, cos, shift_y], dim=1).view(n, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    images = images.mul_(uniform(0.7, 1.3).view(n, 1, 1, 1)).clamp_(0, 1)

    box_height, box_width = uniform(4, 12), uniform(4, 12)
    top, left = uniform(0, 1) * (height - box_height), uniform(0, 1) * (width - box_width)
    rows, columns = torch.arange(height).view(1, -1), torch.arange(width).view(1, -1)
    in_rows = (rows >= top.view(-1, 1)) & (rows < (top + box_height).view(-1, 1))
    in_columns = (columns >= left.view(-1, 1)) & (columns < (left + box_width).view(-1, 1))
    erased = in_rows.unsqueeze(2) & in_columns.unsqueeze(1) & uniform(0, 1).lt(0.25).view(-1, 1, 1)
    return images.masked_fill_(erased.unsqueeze(1), 0.0)


@torch.inference_mode()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    model.eval()
    correct = 0
    for start in range(0, len(images), 1000):
        logits = model(normalise(images[start : start + 1000]))
        correct += int((logits.argmax(1) == labels[start : start + 1000]).sum())
    return correct / len(images)


def parameter_groups(model: nn.Module) -> list[dict[str, object]]:
    """Weight decay for matrices only: not for biases, norms, the class token and the position embedding."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        matrix = parameter.ndim > 1 and name not in {"cls_token", "pos_embed"}
        (decayed if matrix else plain).append(parameter)
    return [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}]


@dataclass(frozen=True)
class Recipe:
    """What decides the weights, apart from the constants of this file."""

    epochs: int
    batch: int
    learning_rate: float
    seed: int
    bfloat16: bool


def train(model: nn.Module, images: Tensor, labels: Tensor, test: tuple[Tensor, Tensor], recipe: Recipe) -> None:
    generator = torch.Generator().manual_seed(recipe.seed)
    optimizer = torch.optim.AdamW(parameter_groups(model), lr=recipe.learning_rate)
    steps_per_epoch = len(images) // recipe.batch
    steps, warmup = recipe.epochs * steps_per_epoch, int(WARMUP_EPOCHS * steps_per_epoch)
    step, started = 0, time.monotonic()
    for epoch in range(1, recipe.epochs + 1):
        model.train()
        order = torch.randperm(len(images), generator=generator)
        total = 0.0
        for start in range(0, steps_per_epoch * recipe.batch, recipe.batch):
            progress = (step - warmup) / max(1, steps - warmup)
            factor = (step + 1) / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * progress))
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * factor
            chosen = order[start : start + recipe.batch]
            batch = normalise(augment(images[chosen], generator))
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=recipe.bfloat16):
                logits = model(batch)
            loss = F.cross_entropy(logits.float(), labels[chosen], label_smoothing=LABEL_SMOOTHING)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += loss.item()
            step += 1
            if step % 50 == 0:
                rate = (time.monotonic() - started) / step
                print(f"  step {step}/{steps}  loss {loss.item():.3f}  {rate * 1000:.0f} ms a step", flush=True)
        print(
            f"epoch {epoch}/{recipe.epochs}  mean loss {total / steps_per_epoch:.4f}  "
            f"test accuracy {accuracy(model, *test):.4f}  {time.monotonic() - started:.0f} s",
            flush=True,
        )


def write_asset(model: nn.Module, folder: Path) -> str:
    """Write `config.json`, `model.safetensors` (float16) and the licence; returns the SHA-256 of the weights file."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().half().contiguous() for name, tensor in model.state_dict().items()}
    weights = folder / "model.safetensors"
    save_file(tensors, weights, metadata={"format": "pt"})
    config = {
        "architecture": ARCHITECTURE,
        "num_classes": 10,
        "num_features": MODEL_ARGS["embed_dim"],
        "global_pool": "token",
        "label_names": list(CLASS_NAMES),
        "model_args": MODEL_ARGS,
        "pretrained_cfg": {
            "tag": "fashion_mnist",
            "custom_load": False,
            "input_size": [1, 28, 28],
            "fixed_input_size": True,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": [MEAN],
            "std": [STD],
            "num_classes": 10,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
            "license": "mit",
        },
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "LICENSE-fashion-mnist").write_text(LICENCE)
    return hashlib.sha256(weights.read_bytes()).hexdigest()


def card(recipe: Recipe, command: str, parameters: int, seconds: float, test_accuracy: float, digest: str) -> str:
    """The provenance of the asset, as its README.md."""
    precision = "bfloat16 autocast" if recipe.bfloat16 else "float32"
    return f"""# vit_fashion_mnist

The backbone of `glorasearch quickstart`: a small timm `VisionTransformer`, pretrained on Fashion-MNIST.
It is a timm directory: `timm.create_model("local-dir:<this folder>", pretrained=True)`.

| | |
|---|---|
| Architecture | `{ARCHITECTURE}` with 1 input channel, 28×28 images, 7×7 patches, width 96, depth 6, 3 heads |
| Parameters | {parameters:,}, stored as float16; timm loads them into float32 parameters |
| Normalisation | mean {MEAN:.4f}, std {STD:.4f} (on pixels in [0, 1]) |
| Data | Fashion-MNIST: 60,000 training images; the 10,000 test images are only measured on |
| Licence of the data | MIT, Copyright 2017 Zalando SE: see `LICENSE-fashion-mnist` |
| Source of the data | https://github.com/zalandoresearch/fashion-mnist, by Debian's package `dataset-fashion-mnist` |
| Recipe | {recipe.epochs} epochs, batch {recipe.batch}, AdamW, learning rate {recipe.learning_rate:g} with \
{WARMUP_EPOCHS:g} epoch of warm-up and cosine decay, weight decay {WEIGHT_DECAY:g}, label smoothing \
{LABEL_SMOOTHING:g}, gradient norm clipped at 1, seed {recipe.seed}, {precision} |
| Augmentation | {AUGMENTATION} |
| Made by | `{command}` |
| Made on | {datetime.date.today().isoformat()}, {torch.get_num_threads()} threads of a {platform.machine()} \
processor, torch {torch.__version__.split("+")[0]}, timm {timm.__version__} |
| Training time | {seconds:.0f} s |
| Test accuracy on Fashion-MNIST | {test_accuracy:.4f} (of the stored float16 weights) |
| SHA-256 of `model.safetensors` | `{digest}` |
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Pretrain the quickstart's backbone on Fashion-MNIST.")
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"), help="folder of idx.gz")
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="timm directory to write")
    parser.add_argument("--epochs", type=int, default=18)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bfloat16", action="store_true", help="autocast; quicker only where the processor has it")
    options = parser.parse_args()
    recipe = Recipe(options.epochs, options.batch, options.learning_rate, options.seed, options.bfloat16)

    torch.set_num_threads(options.threads)
    images, labels = read_split(options.data, "train")
    test = read_split(options.data, "t10k")
    print(f"{len(images)} training and {len(test[0])} test images from {options.data}", flush=True)

    torch.manual_seed(recipe.seed)
    model: nn.Module = timm.create_model(ARCHITECTURE, pretrained=False, **MODEL_ARGS)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{parameters} parameters; {recipe}", flush=True)
    started = time.monotonic()
    train(model, images, labels, test, recipe)
    seconds = time.monotonic() - started

    digest = write_asset(model, options.output)
    stored: nn.Module = timm.create_model(f"local-dir:{options.output}", pretrained=True)
    test_accuracy = accuracy(stored, *test)
    command = shlex.join(["python", "scripts/pretrain_quickstart_backbone.py", *sys.argv[1:]])
    text = card(recipe, command, parameters, seconds, test_accuracy, digest)
    (options.output / "README.md").write_text(text)
    size = sum(file.stat().st_size for file in options.output.iterdir())
    print(f"{options.output}: {size} bytes, test accuracy {test_accuracy:.4f}, {seconds:.0f} s")
    if size > SIZE_LIMIT:
        sys.exit(f"the asset has {size} bytes, more than the {SIZE_LIMIT} it may have")


if __name__ == "__main__":
    main()
