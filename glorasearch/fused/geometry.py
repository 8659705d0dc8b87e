"""Where a convolution reads its input, and how one that takes each value at most once is a product with tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Pair = tuple[int, int]
"""Along height and width."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """What a convolution has beside its weight, whose filters are `(out, in / groups, height, width)`.

    All lengths are in pixels. `ahead` pads the input first, in a mode of `F.pad`: what a convolution cannot do itself,
    which pads with zeros and by as much on either side.
    """

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    ahead: tuple[int, ...] = ()
    """Left, right, top, bottom."""
    mode: str = "constant"

    @classmethod
    def of(cls, conv: nn.Conv2d) -> Self:
        """That of a convolution."""
        left, right, top, bottom = ahead = tuple(cast(Sequence[int], conv._reversed_padding_repeated_twice))
        kernel, stride, dilation = (cast(Pair, pair) for pair in (conv.kernel_size, conv.stride, conv.dilation))
        own = conv.padding_mode == "zeros" and left == right and top == bottom
        if own:
            return cls(kernel, stride, (top, left), dilation, conv.groups)
        mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
        return cls(kernel, stride, (0, 0), dilation, conv.groups, ahead, mode)

    @classmethod
    def from_numbers(cls, numbers: Sequence[int]) -> Self:
        """The opposite of `numbers`; without what is padded ahead."""
        pairs = [cast(Pair, tuple(numbers[at : at + 2])) for at in range(0, 8, 2)]
        return cls(pairs[0], pairs[1], pairs[2], pairs[3], numbers[8])

    @property
    def numbers(self) -> list[int]:
        """Kernel, stride, padding, dilation and groups as 9 numbers, for an operator's arguments."""
        return [*self.kernel, *self.stride, *self.padding, *self.dilation, self.groups]

    @property
    def taps(self) -> int:
        """Pixels that a filter covers."""
        return self.kernel[0] * self.kernel[1]

    @property
    def by_tokens(self) -> bool:
        """Whether every value of the input goes into one place of the output at most: then `tokens` copies none twice.

        So it is with 1x1 convolutions, whatever their stride, and with patches that do not overlap.
        """
        apart = all(k == 1 or (k == s and d == 1) for k, s, d in zip(*self._axes, strict=True))
        return apart and self.groups == 1 and self.padding == (0, 0)

    @property
    def _axes(self) -> tuple[Pair, Pair, Pair]:
        return self.kernel, self.stride, self.dilation

    def padded(self, x: Tensor) -> Tensor:
        """The input with what is padded ahead."""
        return F.pad(x, self.ahead, mode=self.mode) if self.ahead else x

    def tokens(self, x: Tensor) -> Tensor:
        """`(N, in, H, W)` as `(N, H', W', in · height · width)`, contiguous: a product's input, if `by_tokens`."""
        high, wide = self.kernel
        down, right = (stride if length == 1 else 1 for length, stride in zip(self.kernel, self.stride, strict=True))
        # cut with the channels last, or the gradient has them first, and is copied by whoever takes it on
        x = x.permute(0, 2, 3, 1)[:, ::down, ::right]
        count, rows, columns, channels = x.shape
        rows, columns = rows // high, columns // wide
        x = x[:, : rows * high, : columns * wide].reshape(count, rows, high, columns, wide, channels)
        return x.permute(0, 1, 3, 5, 2, 4).reshape(count, rows, columns, -1).contiguous()

    def size_out(self, height: int, width: int) -> Pair:
        """Rows and columns of the output for an input of this size, which was padded ahead."""
        axes = zip((height, width), self.padding, *self._axes, strict=True)
        rows, columns = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, p, k, s, d in axes)
        return rows, columns

    def convolve(self, x: Tensor, filters: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution of an input that was padded ahead, channels last."""
        y = F.conv2d(x, filters, bias, self.stride, self.padding, self.dilation, self.groups)
        return y.contiguous(memory_format=torch.channels_last)

    def input_gradient(self, dy: Tensor, x: Tensor, filters: Tensor) -> Tensor:
        """The gradient of the input."""
        return self._backward(dy, x, filters, [True, False, False])[0]

    def weight_gradient(self, dy: Tensor, x: Tensor, filters: Tensor) -> Tensor:
        """The gradient of the filters; of these only shape, dtype and layout are used."""
        return self._backward(dy, x, filters, [False, True, False])[1]

    def _backward(self, dy: Tensor, x: Tensor, filters: Tensor, wanted: list[bool]) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
            dy, x, filters, None, self.stride, self.padding, self.dilation, False, [0, 0], self.groups, wanted
        )
        return found
