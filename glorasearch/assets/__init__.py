"""Files that are shipped inside the package: the small pretrained backbone of `glorasearch quickstart`."""

from pathlib import Path

__all__ = ["quickstart_backbone_path", "quickstart_run_file"]


def quickstart_backbone_path() -> Path:
    """The timm directory of the quickstart's backbone, for `timm.create_model(f"local-dir:{path}", pretrained=True)`.

    A `VisionTransformer` for `(n, 1, 28, 28)` images, pretrained on Fashion-MNIST (10 classes). Where it comes from,
    and under which licence, stands in its `README.md`; `scripts/pretrain_quickstart_backbone.py` makes it again.
    """
    return Path(__file__).parent / "vit_fashion_mnist"


def quickstart_run_file() -> Path:
    """The run file of `glorasearch quickstart`."""
    return Path(__file__).parent / "quickstart.toml"
