"""What the numbers of a run allow to say, and no more: comparisons of the winner, and a sentence for each."""

from __future__ import annotations

from collections.abc import Mapping

from glorasearch.runs.fixed_methods import BEST_FIXED
from glorasearch.runs.paths import space_label
from glorasearch.runs.results import Correct, Results, SearchChance, Verdict, WinnerComparison
from glorasearch.statistics import LEVEL, holm


def compare_winner(
    winner: Correct, winner_parameters: int, baselines: Mapping[str, tuple[Correct, int]], best_fixed: str | None
) -> tuple[WinnerComparison, ...]:
    """The winner against every baseline, the best fixed method first.

    Args:
        winner: the test images that it classifies correctly.
        winner_parameters: its trainable parameters.
        baselines: the same of each baseline, by name.
        best_fixed: the baseline that was chosen, without the test split, as the one to beat.
    """
    names = sorted(baselines, key=lambda name: name != best_fixed)
    pairs = {name: winner.against(baselines[name][0]) for name in names}
    others = [name for name in names if name != best_fixed]
    adjusted = dict(zip(others, holm([pairs[name].p for name in others]), strict=True))
    found = []
    for name, pair in pairs.items():
        p = adjusted.get(name, pair.p)
        found.append(
            WinnerComparison(
                baseline=name,
                best_fixed=name == best_fixed,
                winner_parameters=winner_parameters,
                baseline_parameters=baselines[name][1],
                images=pair.images,
                both=pair.both,
                only_winner=pair.only_first,
                only_baseline=pair.only_second,
                difference=pair.difference,
                interval=pair.interval,
                p=pair.p,
                p_adjusted=p,
                verdict=verdict(pair.difference, p),
            )
        )
    return tuple(found)


def verdict(difference: float, p: float) -> Verdict:
    """What can be said of a difference with that p."""
    if p >= LEVEL:
        return "no difference"
    return "better" if difference > 0 else "worse"


def winner_statement(found: WinnerComparison, method: str) -> str:
    """A sentence on the winner and a baseline; `method` is what the winner is called."""
    named = other = space_label(found.baseline)
    if found.baseline == BEST_FIXED:
        named, other = "the best fixed method of the race", "the best fixed method"
    elif found.best_fixed:
        named = f"{other}, the best fixed method of the race,"
    conclusion = {
        "better": f"{method} is better than {named.rstrip(',')}",
        "worse": f"{method} is worse than {named.rstrip(',')}",
        "no difference": f"no difference between {method} and {named} can be told",
    }[found.verdict]
    low, high = found.interval
    p = p_text(found.p_adjusted) + ("" if found.p_adjusted == found.p else " after Holm")
    return _sentence(
        f"{conclusion}: {points(found.difference)} points (95 %: {points(low)} to {points(high)}; {p}; of "
        f"{found.images} test images {found.only_winner} are right with {method} alone, {found.only_baseline} with "
        f"{other} alone), {found.winner_parameters:,} against {found.baseline_parameters:,} parameters"
    )


def chance_statement(found: SearchChance) -> str:
    """A sentence on the search's winner and chance."""
    percent = found.fitness == "accuracy"

    def text(value: float) -> str:
        return f"{100 * value:.1f} %" if percent else f"{value:.4f}"

    conclusion = {
        "better": "better than what",
        "within": "within what",
        "worse": "worse than what",
    }[found.verdict]
    name = f"{found.fitness.replace('_', '-')}{'' if percent else ' in nats'}"
    return _sentence(
        f"the search's winner is {conclusion} the best of {found.draws} random subnets has by chance: "
        f"{text(found.found)} against {text(found.expected)} (95 %: {text(found.low)} to {text(found.high)}; "
        f"{p_text(found.p)}; {name} on the search split, judged by {len(found.scores)} random subnets)"
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


def comparisons(results: Results, best_fixed: str | None) -> tuple[WinnerComparison, ...]:
    """The winner of a run against its baselines, as far as they have been tested."""
    tested, pick = results.test, results.pick
    if tested is None or pick is None:
        return ()
    sizes = {name: trained.parameters for name, trained in results.baselines.items()}
    baselines = {name: (correct, sizes[name]) for name, correct in tested.baselines_correct.items()}
    return compare_winner(tested.correct, pick.parameters, baselines, best_fixed)


def statements(results: Results, method: str, best_fixed: str | None) -> tuple[str, ...]:
    """What can be said of a run, a sentence each; `method` is what its winner is called."""
    compared = [winner_statement(found, method) for found in comparisons(results, best_fixed)]
    chance = None if results.search is None else results.search.chance
    raced = [] if results.race is None else [f"{results.race.verdict()}."]
    return (*raced, *compared, *([] if chance is None else [chance_statement(chance)]))
