"""`fourier:n` and `fourier_qv:n`: n entries of a weight's spectrum (FourierFT, arXiv 2405.03003)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from glorasearch.choices.base import Choice, Contribution, Dense, Options, Part, Site, Spectral

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Fourier(Spectral):
    """`ΔW = α·Re(ifft2(F))` with `F (out, in)` zero except for n coefficients c at entries drawn once from a seed.

    The entries are those of PEFT for the same seed: the first n of `randperm(out·in)` by a CPU generator, the same for
    all layers of a shape; so `fourier:100` is a prefix of `fourier:1000`. Options: `scale` is α; `seed`; with `centre`
    at zero or above, entries are drawn without replacement in proportion to exp(−((D² − centre²) / (D·width))²), where
    D is the distance of the frequency (j, k), aliased to the nearest, from zero.

    ΔW is one inverse transform of the half spectrum, in float32 or wider, added to W0; there is no second product with
    ΔW alone.

    Deviations: c starts at zero, not N(0, 1), so that the start is a no-op. It has its own learning-rate group
    (`spectrum`), with a rate far above that of factors, since torch's `ifft2` divides by out·in.
    """

    name = "fourier"
    tensors = "B"
    arguments = ("entries",)
    defaults: ClassVar[Options] = {"scale": 300.0, "seed": 777.0, "centre": -1.0, "width": 100.0}
    positive = ("scale", "width")
    whole: ClassVar[Mapping[str, int]] = {"seed": 0}

    @classmethod
    def parts(cls, site: Site, **largest: int) -> dict[str, Part]:
        """`coefficients (n,)`."""
        return {"coefficients": Part((largest["entries"],), cut={"entries": -1}, rate="spectrum")}

    @classmethod
    def contribution(cls, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> Contribution:
        """The dense shift."""
        return Contribution(shift=Dense(_inverse(parts["coefficients"], site.layer.out_features, site)))

    @classmethod
    def bases(cls, parts: Mapping[str, Part], site: Site) -> tuple[Tensor, Tensor]:
        """From cos(a + b) = cos a·cos b − sin a·sin b, the phases of an entry's row and column; n = 2·entries."""
        import torch

        outs, ins = site.layer.out_features, site.layer.in_features
        rows, columns = entries(outs, ins, parts["coefficients"].shape[-1], *_drawing(site))
        left = 2 * torch.pi / outs * ((torch.arange(outs)[:, None] * rows) % outs).double()
        right = 2 * torch.pi / ins * ((columns[:, None] * torch.arange(ins)) % ins).double()
        return torch.cat([left.cos(), -left.sin()], dim=1), torch.cat([right.cos(), right.sin()])

    @classmethod
    def spectrum(cls, parts: Mapping[str, Tensor], site: Site) -> Tensor:
        """α·c / (out·in), repeated for cosines and sines."""
        import torch

        size = site.layer.out_features * site.layer.in_features
        scaled = parts["coefficients"] * (site.options["scale"] / size)
        return torch.cat([scaled, scaled], dim=-1)

    def check(self, site: Site) -> None:
        """A weight has out·in entries."""
        self.at_most(site, "entries", site.layer.out_features * site.layer.in_features)


class FourierQv(Choice):
    """FourierFT as published: a spectrum of n coefficients for query and one for value, none for key.

    For a fused qkv of three weights `(out / 3, in)`, of which the first and the third are shifted as by `fourier:n`,
    with the same entries. Any other layer is one weight, shifted as by `fourier:n`: there a space leaves the key alone
    by not taking it. Options are those of `fourier`.
    """

    name = "fourier_qv"
    tensors = "B"
    arguments = ("entries",)
    defaults: ClassVar[Options] = Fourier.defaults
    positive = Fourier.positive
    whole: ClassVar[Mapping[str, int]] = Fourier.whole

    @classmethod
    def parts(cls, site: Site, **largest: int) -> dict[str, Part]:
        """`qv_coefficients (2, n)`, on a layer that is no fused qkv `(1, n)`."""
        spectra = 2 if site.layer.stacked == 3 else 1
        return {"qv_coefficients": Part((spectra, largest["entries"]), cut={"entries": -1}, rate="spectrum")}

    @classmethod
    def contribution(cls, parts: Mapping[str, Tensor], base: Tensor, site: Site) -> Contribution:
        """The dense shift, zero in the rows of the key."""
        import torch

        shifts = _inverse(parts["qv_coefficients"], site.layer.out_features // site.layer.stacked, site).unbind(-3)
        if len(shifts) == 1:
            return Contribution(shift=Dense(shifts[0]))
        query, value = shifts
        return Contribution(shift=Dense(torch.cat([query, torch.zeros_like(query), value], dim=-2)))

    @classmethod
    def spectrum_size(cls, site: Site) -> int:
        """That of one of the stacked weights."""
        return super().spectrum_size(site) // site.layer.stacked

    def check(self, site: Site) -> None:
        """One of the stacked weights has that many entries."""
        layer = site.layer
        self.at_most(site, "entries", layer.out_features // layer.stacked * layer.in_features)


def _inverse(given: Tensor, outs: int, site: Site) -> Tensor:
    """`α·Re(ifft2(F))`, `(..., outs, in)`, from coefficients `(..., n)`."""
    import torch

    coefficients = given.float() if given.dtype in (torch.bfloat16, torch.float16) else given
    ins = site.layer.in_features
    places, source = half_spectrum(outs, ins, given.shape[-1], *_drawing(site), given.device)
    width = ins // 2 + 1
    half = coefficients.new_zeros(*coefficients.shape[:-1], outs * width)
    half = half.index_add(-1, places, coefficients.index_select(-1, source) / 2)
    shift: Tensor = torch.fft.irfft2(half.view(*half.shape[:-1], outs, width), s=(outs, ins))
    return (shift * site.options["scale"]).to(given.dtype)


def _drawing(site: Site) -> tuple[int, float, float]:
    return int(site.options["seed"]), site.options["centre"], site.options["width"]


@functools.lru_cache(maxsize=256)
def entries(outs: int, ins: int, count: int, seed: int, centre: float, width: float) -> Tensor:
    """Rows and columns `(2, count)` of the first entries of the spectrum of an `(outs, ins)` weight."""
    import torch

    with torch.inference_mode(False):  # cached: autograd must be able to use what an evaluation requested first
        generator = torch.Generator("cpu").manual_seed(seed)
        if centre < 0:
            order = torch.randperm(outs * ins, generator=generator, device="cpu")
        else:
            rows, columns = (torch.fft.fftfreq(n, 1 / n, dtype=torch.float64, device="cpu") for n in (outs, ins))
            distance = (rows[:, None].square() + columns[None, :].square()).sqrt().flatten()
            # As the distance goes to zero, the density goes to 1 for a centre at zero and to 0 elsewhere.
            ratio = (distance.square() - centre**2) / (distance * width).clamp(min=1e-12)
            draws = torch.rand(outs * ins, generator=generator, dtype=torch.float64, device="cpu")
            keys = -ratio.square() - (-draws.log()).log()  # the largest of them: a draw without replacement (Gumbel)
            order = keys.argsort(descending=True, stable=True)
        chosen = order[:count]
        return torch.stack([chosen // ins, chosen % ins])


@functools.lru_cache(maxsize=256)
def half_spectrum(
    outs: int, ins: int, count: int, seed: int, centre: float, width: float, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Flat positions in the half spectrum `(outs, ins // 2 + 1)` that receive half of an entry, and the entry's index.

    Re(ifft2(F)) is ifft2 of (F + its mirror image) / 2, (j, k) being mirrored at (−j, −k); the half spectrum holds the
    columns up to ins // 2 of that.
    """
    import torch

    with torch.inference_mode(False):  # as above
        rows, columns = entries(outs, ins, count, seed, centre, width)
        both_rows = torch.cat([rows, (-rows) % outs])
        both_columns = torch.cat([columns, (-columns) % ins])
        source = torch.arange(count, device=rows.device).repeat(2)
        kept = both_columns <= ins // 2
        places = (both_rows * (ins // 2 + 1) + both_columns)[kept]
        return places.to(device), source[kept].to(device)
