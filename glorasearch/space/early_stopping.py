"""Exact early stopping: when the evaluation of a candidate may stop with no effect on the search.

A sampler that takes its parents from the top k of what was evaluated needs no score of a candidate that cannot be among
them. `StopThreshold.value` is the fitness of the k-th best of the distinct subnets that had been evaluated to the end
when the threshold was set. While the images are scored chunk by chunk,

- with e errors so far, the accuracy on all N images is at most (N − e) / N;
- as no cross-entropy is negative, its mean over all N images is at least (sum so far) / N;
- that holds at every temperature. So the tempered cross-entropy, the least of these means over a fixed set of
  temperatures, is at least the least of the (sum so far) / N: if b is the best temperature for all N images, then
  `min over beta of (sum so far at beta) <= (sum so far at b) <= (sum of all at b)`, which is N times the score;
- as e_c errors on images of class c leave at most N_c − e_c of its N_c images right, the balanced accuracy is at most
  the mean of (N_c − e_c) / N_c;
- the F1 score of class c is 2 R_c / (N_c + P_c) of R_c right images and P_c that are taken for it. An image still to
  come adds 1 to R_c and P_c if it is right, which makes the score no smaller, as R_c <= N_c; if it is wrong it adds 1
  to the P of another class, which makes that one's no larger, and may make it a class that counts, with a score of 0.
  So macro F1 is at most what it is if all images to come are right.

The evaluation stops as soon as this bound is **strictly** worse than the threshold. An area under the ROC curve is
of pairs of images: s of N images decide (s / N)² of them. That bounds it too loosely to pay, so every candidate is
evaluated to the end.

**Same parents, same winner.** Let candidate c be stopped. Then k distinct subnets, all evaluated to the end, are at
least as good as the threshold, and c is strictly worse: each of them ranks before c, however ties are broken. What was
evaluated stays evaluated, so they rank before c in every later generation too; c is in no later top k, nor is it the
winner. That holds for every stopped candidate, so leaving all of them out changes no top k, hence no parents, hence no
trial (trials are drawn from the seed, their numbers, the parents and earlier subnets, stopped ones included). A
candidate that is *not* stopped has all its images scored, and the same score as without a threshold. By induction over
the generations both searches are the same. They differ only in what is recorded of the stopped trials.

**A stopped subnet that is drawn again** need not be evaluated again: thresholds of later trials come from more subnets,
so they are at least as good, and its bound is strictly worse than theirs too.

**Rounding does no harm.** Each image's cross-entropy, at each temperature, is rounded once to a whole multiple of 2⁻³⁰
nats. A sum of such numbers below `EXACT` = 2²³ nats is a float64, so adding them up is exact in any order; a sum that
is not below it evaluates to no less than it. So with `bound = min(sum so far, EXACT) / N` and the score being `(sum of
all) / N`, both divided by the same N, a bound above the threshold means a score above the threshold. Taking the least
over the temperatures rounds nothing and keeps the order: where no sum so far, cut off at `EXACT`, exceeds the sum of
all at its temperature, the least of the former does not exceed the least of the latter. Values that are not finite stop
nothing, and an image has them at every temperature or at none: such a candidate is evaluated to its end and is an
error, as without a threshold. Squared errors are not negative either, and are rounded and added up alike, in squared
standard deviations in place of nats. Means over classes are of whole numbers: each quotient, their sum and its quotient
by the number of classes are rounded once, and rounding keeps the order.

It remains that an image's cross-entropy must be a function of image and candidate. All images are scored in chunks of
one size that hold the same images in the same places, with or without a threshold, so this holds wherever the same
computation gives the same bits twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from glorasearch.space.score import CLASS_METRICS, Fitness, ScoreSums, higher_is_better

UNIT: Final = 2.0**-30
"""Nats. Cross-entropies are whole multiples of this."""
EXACT: Final = 2.0**23
"""Nats. Sums of such multiples below this are exact in float64: 2²³ / 2⁻³⁰ = 2⁵³."""


@dataclass(frozen=True, slots=True)
class StopThreshold:
    """The fitness that a candidate has to reach to matter; JSON-ready."""

    fitness: Fitness
    """What `value` is."""
    value: float

    def bound(self, sums: ScoreSums, seen: int, total: int) -> float:
        """The best fitness that a candidate can still reach, in the unit of `value`.

        Args:
            sums: over the images seen; each cross-entropy in them is a multiple of `UNIT`.
            seen: how many.
            total: images of the split.
        """
        if self.fitness == "accuracy":
            return (total - (seen - sums.correct)) / total
        if self.fitness in CLASS_METRICS:
            assert sums.classes is not None
            return float(getattr(sums.classes.best_case, self.fitness))
        return min(sums.tempered if self.fitness == "tempered" else sums.cross_entropy, EXACT) / total

    def excludes(self, bound: float) -> bool:
        """Whether a candidate with this bound is strictly worse than the threshold."""
        return bound < self.value if higher_is_better(self.fitness) else bound > self.value
