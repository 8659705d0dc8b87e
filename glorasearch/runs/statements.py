"""What the numbers of a run allow to say, and no more: comparisons of the winner, and a sentence for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from glorasearch.runs.cautions import cautions
from glorasearch.runs.fixed_methods import BEST_FIXED
from glorasearch.runs.paths import space_label
from glorasearch.runs.results import (
    Correct,
    Errors,
    RaceSummary,
    Results,
    SearchChance,
    TeacherSummary,
    Verdict,
    WinnerComparison,
    paired,
)
from glorasearch.space import fitness_name
from glorasearch.statistics import LEVEL, PairedErrors, PairedImages, holm
from glorasearch.tasks.kinds import words_of


class Rival(NamedTuple):
    """A baseline that the winner is compared with."""

    judged: Correct | Errors
    """The test images that it classifies correctly, or its error on each."""
    parameters: int
    method: str
    """What it is called."""


def compare_winner(
    winner: Correct | Errors, parameters: int, rivals: Mapping[str, Rival], best_fixed: str | None
) -> tuple[WinnerComparison, ...]:
    """The winner against every baseline, the best fixed method first.

    Args:
        winner: the test images that it classifies correctly, or its error on each.
        parameters: its trainable parameters.
        rivals: the baselines by name.
        best_fixed: the baseline that was chosen, without the test split, as the one to beat.
    """
    names = sorted(rivals, key=lambda name: name != best_fixed)
    pairs = {name: paired(winner, rivals[name].judged) for name in names}
    others = [name for name in names if name != best_fixed]
    adjusted = dict(zip(others, holm([pairs[name].p for name in others]), strict=True))
    return tuple(
        WinnerComparison.of(
            pair,
            baseline=name,
            method=rivals[name].method,
            best_fixed=name == best_fixed,
            winner_parameters=parameters,
            baseline_parameters=rivals[name].parameters,
            both=getattr(pair, "both", None),
            only_winner=getattr(pair, "only_first", None),
            only_baseline=getattr(pair, "only_second", None),
            p_adjusted=adjusted.get(name, pair.p),
            verdict=verdict_of(pair, adjusted.get(name, pair.p)),
        )
        for name, pair in pairs.items()
    )


def verdict_of(pair: PairedImages | PairedErrors, p: float) -> Verdict:
    """What can be said of the first of two models: the more accurate one, or that of less error, is better."""
    return verdict(pair.difference if isinstance(pair, PairedImages) else -pair.difference, p)


def verdict(difference: float, p: float) -> Verdict:
    """What can be said of a difference with that p."""
    if p >= LEVEL:
        return "no difference"
    return "better" if difference > 0 else "worse"


def winner_statement(found: WinnerComparison, method: str) -> str:
    """A sentence on the winner and a baseline; `method` is what the winner is called."""
    other = found.method
    named = f"{other}, the best fixed method of the race," if found.best_fixed else other
    conclusion = {
        "better": f"{method} is better than {named.rstrip(',')}",
        "worse": f"{method} is worse than {named.rstrip(',')}",
        "no difference": f"no difference between {method} and {named} can be told",
    }[found.verdict]
    low, high = found.interval
    p = p_text(found.p_adjusted) + ("" if found.p_adjusted == found.p else " after Holm")
    if found.only_winner is None:
        return _sentence(
            f"{conclusion}: {found.difference:+.3f} in mean squared error (95 %: {low:+.3f} to {high:+.3f}; {p}; on "
            f"{found.images} test images), {found.winner_parameters:,} against {found.baseline_parameters:,} parameters"
        )
    return _sentence(
        f"{conclusion}: {points(found.difference)} points (95 %: {points(low)} to {points(high)}; {p}; of "
        f"{found.images} test images {found.only_winner} are right with {method} alone, {found.only_baseline} with "
        f"{other} alone), {found.winner_parameters:,} against {found.baseline_parameters:,} parameters"
    )


def chance_statement(found: SearchChance, start: str | None = None) -> str:
    """A sentence on the search's winner and chance; `start` is the winner's name if the search began with it."""
    percent = found.fitness in ("accuracy", "balanced_accuracy")
    unit = " in nats" if found.fitness in ("tempered", "cross_entropy") else ""

    def text(value: float) -> str:
        return f"{100 * value:.1f} %" if percent else f"{value:.4f}"

    conclusion = {
        "better": "better than what",
        "within": "within what",
        "worse": "worse than what",
    }[found.verdict]
    name = f"{fitness_name(found.fitness)}{unit}"
    winner = "the search's winner" if start is None else f"the search's winner, {start}, with which it began,"
    return _sentence(
        f"{winner} is {conclusion} the best of {found.draws} random subnets has by chance: "
        f"{text(found.found)} against {text(found.expected)} (95 %: {text(found.low)} to {text(found.high)}; "
        f"one-sided {p_text(found.p)}; {name} on the search split, judged by {len(found.scores)} random subnets)"
    )


def points(difference: float, digits: int = 1) -> str:
    """A difference of accuracies in percentage points, with its sign."""
    text = f"{100 * difference:+.{digits}f}"
    return text if text.strip("+-0.") else text[1:]


def p_text(p: float) -> str:
    """`p = 0.04`, with two digits; `p < 0.001` below."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def comparisons(results: Results) -> tuple[WinnerComparison, ...]:
    """The winner of a run against its baselines, as far as they have been tested."""
    tested, pick = results.test, results.pick
    winner = None if tested is None else tested.judged
    if tested is None or winner is None or pick is None:
        return ()
    rivals = {}
    for name, trained in results.baselines.items():
        method = space_label(trained.space)
        judged = tested.baselines_correct.get(name) or tested.baselines_errors.get(name)
        if judged is not None:
            known = f"{method} at {trained.lr:g}" if name == BEST_FIXED else method
            rivals[name] = Rival(judged, trained.parameters, known)
    # Never the one with the best test accuracy: that would be chosen by the images on which it is then compared.
    return compare_winner(winner, pick.parameters, rivals, BEST_FIXED if BEST_FIXED in rivals else None)


def _same_as_baseline(results: Results, name: str) -> bool:
    """Whether the winner is a baseline itself, which was not trained a second time."""
    trained = results.baselines.get(name)
    return results.refit is not None and trained is not None and trained.weights == results.refit.weights


def _judged_by_search_split(race: RaceSummary) -> str:
    """What it means that some candidates start from a supernet that has seen the training split."""
    text = (
        f"Since some candidates start from the supernet, which has seen the training split, the race was judged on the "
        f"{race.winner.last.images} images of the search split alone"
    )
    if race.best("searched") is None:
        return f"{text}."
    return f"{text}: the search chose its finalists by the same images, so their scores there are too good."


def _of_teachers(teachers: TeacherSummary, race: RaceSummary) -> str:
    """What is known of being taught: the race judged plain trainings."""
    if teachers.discarded and teachers.own_error is not None:
        return (
            f"Taught by {teachers.count} models the winner had a mean squared error of {teachers.own_error:.3f} on its "
            f"own training images, more than the {race.winner.last.judged or 0.0:.3f} out of fold, so it was trained "
            "on the labels."
        )
    if teachers.discarded and teachers.own_accuracy is not None and race.winner.last.accuracy is not None:
        known, unseen = (f"{100 * share:.1f} %" for share in (teachers.own_accuracy, race.winner.last.accuracy))
        return (
            f"Taught by {teachers.count} models the winner knew {known} of its own training images, fewer than the "
            f"{unseen} that it knew out of fold, so it was trained on the labels."
        )
    return (
        f"The race judged plain trainings; after it the winner was taught by {teachers.count} models, and no image out "
        "of fold has judged what that added."
    )


def _of_refit(results: Results) -> list[str]:
    """What the refit of the search's winner added on the test split; nothing after a race, and without a refit."""
    tested, refit = results.test, results.refit
    if tested is None or refit is None or not refit.steps or results.race:
        return []
    after, before = tested.judged, tested.correct_inherited or tested.errors_inherited
    if after is None or before is None:
        return []
    pair = paired(after, before)
    low, high = pair.interval
    conclusion = {
        "better": "The refit made the winner better",
        "worse": "The refit made the winner worse",
        "no difference": "No difference between the refitted winner and its inherited weights can be told",
    }[verdict_of(pair, pair.p)]
    if isinstance(pair, PairedErrors):
        return [
            f"{conclusion}: {pair.difference:+.3f} in mean squared error (95 %: {low:+.3f} to {high:+.3f}; "
            f"{p_text(pair.p)}; on {pair.images} test images)."
        ]
    return [
        f"{conclusion}: {points(pair.difference)} points (95 %: {points(low)} to {points(high)}; {p_text(pair.p)}; of "
        f"{pair.images} test images {pair.only_first} are right after it alone, {pair.only_second} before it alone)."
    ]


def statements(results: Results, method: str) -> tuple[str, ...]:
    """What can be said of a run, a sentence each; `method` is what its winner is called."""
    race, search = results.race, results.search
    found = [] if race is None else [f"{race.verdict()}."]
    if race is not None and race.search_only:
        found.append(_judged_by_search_split(race))
    if race is not None and race.pick.kind == "method" and race.best_own is not None:
        apart = (
            "and the best fixed method under the baselines is this very model"
            if _same_as_baseline(results, BEST_FIXED)
            else "and what sets it apart from that method trained alone is the refit"
        )
        found.append(
            f"The winner is itself a fixed method, {race.pick.label}: it was ahead of all subnets of the run's own "
            f"space in the race, {apart}."
        )
    if race is not None and race.pick.kind == "named":
        found.append(
            f"The winner is a named point, {race.pick.label}, as people would set it by hand: neither search nor "
            "supernet was needed to find it."
        )
    refit = results.refit
    if race is not None and refit is not None and refit.teachers is not None:
        found.append(_of_teachers(refit.teachers, race))
    if refit is not None and refit.judged is not None:
        found.append(refit.judged.sentence)
    found += [
        winner_statement(comparison, method)
        for comparison in comparisons(results)
        if not _same_as_baseline(results, comparison.baseline)
    ]
    found += _of_refit(results)
    if search is not None and search.chance is not None:
        found.append(chance_statement(search.chance, search.start if search.start_share == 1 else None))
    tested = results.test
    if tested is not None and tested.splits.task == "multilabel":
        found.append(
            "An image counts as right if all of its labels are, those said whose probability is above one half; "
            "accuracies are the share of such images."
        )
    if tested is not None and not words_of(tested.splits.task).right_or_wrong:
        found.append(
            "Squared errors are of standardised targets, the mean over them: 1 is what always saying the mean of the "
            "training images has, on images like these."
        )
    return (*found, *cautions(results))
