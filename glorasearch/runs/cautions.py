"""What weakens the numbers of a run, a sentence each: said before it starts, and again with what it found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from glorasearch.data.problems import some
from glorasearch.runs.results import RaceSummary, Results
from glorasearch.statistics import wilson
from glorasearch.statistics.intervals import Z95
from glorasearch.tasks.kinds import WORDS, Words, words_of

WIDE: Final = 0.1
"""An accuracy that may be off by more is said to be so."""
UNTRAINED: Final = (
    "train.steps is 0: the scores on the search split are those of a head of random weights, before any training, and "
    "say nothing of the subnets."
)


def data_cautions(
    names: Sequence[str],
    train: Sequence[int],
    search: Sequence[int],
    test: Sequence[int],
    images: Mapping[str, int],
    words: Words = WORDS["classify"],
) -> tuple[str, ...]:
    """What the splits are too small for.

    Args:
        names: of the classes, or labels, in the order of the outputs.
        train: images of each class.
        search: likewise.
        test: likewise.
        images: of the splits `search` and `test`.
        words: those of the task.
    """
    found = _of_classes(words, names, train, search, test)
    for name, count in images.items():
        if not words.right_or_wrong:
            found += _of_errors(f"The {name} split is small, {count} images: a", count)
            continue
        low, high = wilson(count // 2, count)
        if high - low > 2 * WIDE:
            found.append(
                f"The {name} split is small, {count} images: an accuracy there may be off by {50 * (high - low):.0f} "
                "points (95 %)."
            )
    return tuple(found)


def _of_errors(subject: str, images: int) -> list[str]:
    """That so few images leave an error open: of a normal one the root is known to 1 / sqrt(2 N) of itself."""
    share = Z95 / math.sqrt(2 * images)
    if share <= 2 * WIDE:
        return []
    return [f"{subject} root mean squared error there may be off by {100 * share:.0f} % of itself (95 %)."]


def patience_caution(images: int, words: Words = WORDS["classify"]) -> str:
    """What so many images are too few for, that say when a training ends; empty if they suffice."""
    if not words.right_or_wrong:
        subject = f"{images} training images judge when a training ends (train.patience): a"
        return "".join(_of_errors(subject, images))
    low, high = wilson(images // 2, images)
    if high - low <= 2 * WIDE:
        return ""
    return (
        f"{images} training images judge when a training ends (train.patience): an accuracy of so few may be off by "
        f"{50 * (high - low):.0f} points (95 %), so that is partly chance; train.patience_share takes more."
    )


def _of_classes(
    words: Words, names: Sequence[str], train: Sequence[int], search: Sequence[int], test: Sequence[int]
) -> list[str]:
    """Classes that have too few images."""
    single = [name for name, *counts in zip(names, train, search, strict=True) if sum(counts) == 1]
    unsearched, untested = ([name for name, n in zip(names, counts, strict=True) if not n] for counts in (search, test))
    found = []
    if single:
        found.append(f"One image alone (train + search) teaches {_classes(single, words)}.")
    if unsearched:
        found.append(
            f"No search image is of {_classes(unsearched, words)}: what is chosen by the search split ignores it."
        )
    if untested:
        found.append(
            f"No test image is of {_classes(untested, words)}: accuracies on the test split say nothing of it."
        )
    return found


def cautions(results: Results) -> tuple[str, ...]:
    """What weakens the numbers of the stages that have finished."""
    trained, refit, tested = results.train, results.refit, results.test
    found: list[str] = []
    if trained is not None and not trained.steps:
        found.append(UNTRAINED)
        if refit is not None and not refit.steps:
            found.append("refit.steps is 0, too: nothing was trained, and the exported model's head is random.")
    searched = results.search
    if searched is not None and searched.evaluated == 1 and searched.reused and not searched.failed:
        found.append(
            f"All {searched.trials:,} trials of the search were one subnet, of {searched.parameters:,} parameters: the "
            "search chose nothing. Where the budget leaves no other one, raise space.max or space.max_bytes."
        )
    if results.race is not None:
        found += _of_race(results.race)
    found += _of_steps(results)
    if tested is not None:
        splits = tested.splits
        counts = [split.class_images for split in (splits.train, splits.search, splits.test)]
        if all(counts):  # earlier versions counted none
            found += _of_classes(words_of(splits.task), splits.class_names, *counts)
        right = tested.correct
        if right is None:
            images = tested.splits.test.images
            found += _of_errors(f"The test split has {images} images: a", images)
            return tuple(found)
        low, high = wilson(right.count, right.images)
        if high - low > 2 * WIDE:
            found.append(
                f"The winner is right on {right.count} of {right.images} test images: its accuracy lies between "
                f"{100 * low:.0f} and {100 * high:.0f} % (95 %)."
            )
        if splits.task == "classify" and (counted := splits.test.class_images):
            most = max(counted)
            if low <= most / right.images:
                name = splits.class_names[counted.index(most)]
                found.append(
                    f"The winner is not better than guessing, as far as {right.images} test images can tell: always "
                    f"saying {name!r}, the most frequent class, is right on {most} of them, the winner on "
                    f"{right.count}."
                )
    return tuple(found)


def _of_race(race: RaceSummary) -> list[str]:
    """Copies in several folds, where an earlier version raced, and a lead that is less than what images leave open."""
    found, rival = [], race.rival
    if race.copies_apart:
        found.append(
            f"{race.copies_apart} images have an equal one in another fold of the race: models were judged on images "
            "that they had seen, so accuracies out of fold are too good."
        )
    if rival is not None:
        ours, theirs = race.winner.scores[len(rival.scores) - 1], rival.last  # on the same images
        if ours.accuracy is None or theirs.accuracy is None or race.judge not in ("accuracy", "tempered"):
            return found
        low, high = wilson(round(ours.accuracy * ours.images), ours.images)
        if low <= theirs.accuracy <= high:
            found.append(
                f"The {100 * abs(ours.accuracy - theirs.accuracy):.1f} points between {race.winner.label} and "
                f"{rival.label} in the race are less than {ours.images} images leave open: the 95 % interval of the "
                f"winner's accuracy there is {100 * low:.1f} to {100 * high:.1f} %."
            )
    return found


def _of_steps(results: Results) -> list[str]:
    """Baselines that were not trained for as many steps as the winner; nothing where patience decided how many."""
    refit = results.refit
    if refit is None or refit.kept_step is not None:
        return []
    others = {
        name: one.steps for name, one in results.baselines.items() if one.kept_step is None and one.steps != refit.steps
    }
    if not others:
        return []
    each = ", ".join(f"{name} for {steps:,}" for name, steps in others.items())
    return [
        f"The winner was refitted for {refit.steps:,} steps, {each}: what they differ by may come from that; "
        f"report.steps = {refit.steps} trains them as long."
    ]


def _classes(names: Sequence[str], words: Words) -> str:
    """`class 'a'`, or `3 classes ('a', 'b', 'c')`."""
    return f"{words.output} {names[0]!r}" if len(names) == 1 else f"{len(names)} {words.outputs} ({some(names)})"
