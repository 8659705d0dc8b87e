"""Which images two models get right, and what is said of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support.stage_results import SUBNET, candidate, result

from glorasearch.runs.results import Correct, Results, SearchChance
from glorasearch.runs.statements import (
    Rival,
    chance_statement,
    compare_winner,
    p_text,
    points,
    statements,
    winner_statement,
)
from glorasearch.statistics import best_by_chance

flags = st.lists(st.booleans(), max_size=40)


@given(flags)
def test_packed_images_come_back(correct: list[bool]) -> None:
    packed = Correct.pack(correct)

    assert packed.each() == tuple(correct)
    assert (packed.images, packed.count) == (len(correct), sum(correct))
    assert Correct.from_json(packed.to_json()) == packed
    assert len(packed.bits) <= 4 * (len(correct) / 24 + 1)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_a_pair_counts_images(both: list[tuple[bool, bool]]) -> None:
    first, second = (Correct.pack(side) for side in zip(*both, strict=True))
    pair = first.against(second)

    assert pair.both == both.count((True, True))
    assert (pair.only_first, pair.only_second) == (both.count((True, False)), both.count((False, True)))
    assert pair.difference == pytest.approx(first.accuracy - second.accuracy)


@pytest.mark.parametrize(
    "content", [{"images": 8, "bits": "?"}, {"images": 9, "bits": "/w=="}, {"images": 7, "bits": "/w=="}]
)
def test_bits_that_are_none(content: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="bits"):
        Correct.from_json(content)


def test_other_images_are_no_pair() -> None:
    with pytest.raises(ValueError, match="8 and 9 images"):
        Correct.pack([True] * 8).against(Correct.pack([True] * 9))


def images(*, both: int = 0, winner: int = 0, baseline: int = 0, neither: int = 0) -> tuple[Correct, Correct]:
    """Winner and baseline with that many images of each kind."""
    pairs = [(True, True)] * both + [(True, False)] * winner + [(False, True)] * baseline + [(False, False)] * neither
    first, second = zip(*pairs, strict=True)
    return Correct.pack(first), Correct.pack(second)


@pytest.mark.parametrize(
    ("winner", "baseline", "expected"),
    [
        (
            10,
            2,
            "The winner is better than lora, the best fixed method of the race: +8.0 points (95 %: +1.4 to +15.8; "
            "p = 0.039; of 100 test images 10 are right with the winner alone, 2 with lora alone), 500 against 3,072 "
            "parameters.",
        ),
        (
            2,
            10,
            "The winner is worse than lora, the best fixed method of the race: -8.0 points (95 %: -15.8 to -1.4; "
            "p = 0.039; of 100 test images 2 are right with the winner alone, 10 with lora alone), 500 against 3,072 "
            "parameters.",
        ),
        (
            9,
            2,
            "No difference between the winner and lora, the best fixed method of the race, can be told: +7.0 points "
            "(95 %: 0.0 to +14.6; p = 0.065; of 100 test images 9 are right with the winner alone, 2 with lora "
            "alone), 500 against 3,072 parameters.",
        ),
    ],
)
def test_what_is_said_of_winner_and_baseline(winner: int, baseline: int, expected: str) -> None:
    first, second = images(both=60, winner=winner, baseline=baseline, neither=40 - winner - baseline)
    (found,) = compare_winner(first, 500, {"best": Rival(second, 3072, "lora")}, "best")

    assert winner_statement(found, "the winner") == expected


def test_several_baselines_are_adjusted_and_the_planned_one_is_not() -> None:
    first, second = images(both=60, winner=10, baseline=2, neither=28)
    baselines = dict.fromkeys(("ssf", "lora", "bitfit"), Rival(second, 1, "x"))

    unplanned = compare_winner(first, 1, baselines, None)
    planned = compare_winner(first, 1, baselines, "lora")

    assert [found.p for found in unplanned] == [158 / 4096] * 3
    assert [found.p_adjusted for found in unplanned] == [3 * 158 / 4096] * 3
    assert {found.verdict for found in unplanned} == {"no difference"}
    assert "p = 0.12 after Holm" in winner_statement(unplanned[0], "the winner")
    assert [found.baseline for found in planned] == ["lora", "ssf", "bitfit"]
    assert [found.p_adjusted for found in planned] == [158 / 4096, 2 * 158 / 4096, 2 * 158 / 4096]
    assert [found.verdict for found in planned] == ["better", "no difference", "no difference"]
    assert [found.best_fixed for found in planned] == [True, False, False]


SCORES = (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7)


@pytest.mark.parametrize(("found", "verdict"), [(-5.0, "better"), (0.9, "within"), (1.9, "worse")])
def test_what_is_said_of_chance(found: float, verdict: str) -> None:
    chance = best_by_chance(SCORES, 20, found, lower_is_better=True)
    judged = SearchChance.judged(chance, fitness="cross_entropy", found=found, scores=SCORES)
    text = chance_statement(judged)

    assert judged.verdict == verdict
    how = "within what" if verdict == "within" else f"{verdict} than what"
    assert text.startswith(
        f"The search's winner is {how} the best of 20 random subnets has by chance: {found:.4f} against "
    )
    assert f"; one-sided {p_text(chance.p)}; " in text  # the band is two-sided: below 0.05 it may be within it still
    assert text.endswith("cross-entropy in nats on the search split, judged by 8 random subnets).")


@pytest.mark.parametrize("draws", [1, 2, 20, 1_000])
@pytest.mark.parametrize("lower", [True, False])
def test_far_outside_the_band_is_better_on_the_good_side_alone(draws: int, lower: bool) -> None:
    for found, verdict in ((-50.0, "better" if lower else "worse"), (50.0, "worse" if lower else "better")):
        chance = best_by_chance(SCORES, draws, found, lower_is_better=lower)
        fitness = "tempered" if lower else "accuracy"
        expected = "within" if (draws, verdict) == (1, "worse") else verdict  # one more is the worst of nine in a ninth
        assert SearchChance.judged(chance, fitness=fitness, found=found, scores=SCORES).verdict == expected


def test_accuracies_are_said_in_percent() -> None:
    accuracies = tuple(0.5 + 0.01 * number for number in range(8))
    chance = best_by_chance(accuracies, 20, 0.9, limit=1.0)
    judged = SearchChance.judged(chance, fitness="accuracy", found=0.9, scores=accuracies)

    assert judged.verdict == "better"
    assert "has by chance: 90.0 % against 5" in chance_statement(judged)
    assert "accuracy on the search split" in chance_statement(judged)


@pytest.mark.parametrize(("share", "began"), [(1.0, True), (0.5, False), (None, False)])
def test_a_winner_that_the_search_began_with_was_not_found_by_it(share: float | None, began: bool) -> None:
    judged = SearchChance.judged(
        best_by_chance(SCORES, 20, 0.9, lower_is_better=True), fitness="tempered", found=0.9, scores=SCORES
    )
    start = None if share is None else "lora:8 everywhere"
    search = result("search", start=start, start_share=share, chance=judged.to_json())

    (said,) = statements(Results({"search": search}), "the winner")

    expected = (
        "The search's winner, lora:8 everywhere, with which it began, is within" if began else "The search's winner is"
    )
    assert said.startswith(expected)


def test_a_race_on_the_search_split_alone_is_said_to_be_one() -> None:
    def said(*kinds: str) -> tuple[str, ...]:
        candidates = [candidate(kind, kind, 0.5) for kind in kinds]
        return statements(Results({"race": result("race", search_only=True, candidates=candidates)}), "the winner")

    alone = "the race was judged on the 100 images of the search split alone"
    chosen = ": the search chose its finalists by the same images, so their scores there are too good."
    assert said("searched", "method")[1].endswith(alone + chosen)
    assert said("named", "method")[1].endswith(f"{alone}.")
    assert len(statements(Results({"race": result("race")}), "the winner")) == 2


def test_what_teachers_added_was_not_judged_by_the_race() -> None:
    def said(**changes: object) -> str:
        teachers = {"count": 8, "names": ["lora"], "steps": 8, "seconds": 1.0, "mixed": 9} | changes
        stages = {"race": result("race"), "refit": result("refit", teachers=teachers)}
        return statements(Results(stages), "the winner")[2]

    assert said(own_accuracy=0.99).endswith("taught by 8 models, and no image out of fold has judged what that added.")
    assert said(own_accuracy=0.625, discarded=True) == (
        "Taught by 8 models the winner knew 62.5 % of its own training images, fewer than the 75.0 % that it knew out "
        "of fold, so it was trained on the labels."
    )


def test_a_run_says_what_it_has() -> None:
    winner, lora = images(both=1, winner=6, neither=1)
    test = result("test", correct=winner, baselines={"lora": lora.accuracy}, baselines_correct={"lora": lora})
    stages = {"search": result("search"), "baseline:lora": result("baseline", parameters=600), "test": test}

    said, caution = statements(Results(stages), "the winner")

    assert caution.startswith("The winner is right on 7 of 8 test images")
    assert said.startswith("The winner is better than lora: +75.0 points")
    assert said.endswith("1,234 against 600 parameters.")
    assert statements(Results({"search": result("search")}), "the winner") == ()
    assert SUBNET.digest in str(stages["search"])


@pytest.mark.parametrize(
    ("p", "text"), [(1.0, "p = 1"), (0.4, "p = 0.4"), (0.0312, "p = 0.031"), (0.001, "p = 0.001"), (9e-4, "p < 0.001")]
)
def test_ps_have_two_digits(p: float, text: str) -> None:
    assert p_text(p) == text


@pytest.mark.parametrize(
    ("difference", "digits", "text"),
    [
        (0.0123, 1, "+1.2"),
        (-0.0123, 2, "-1.23"),
        (0.0, 1, "0.0"),
        (-0.0001, 1, "0.0"),
        (0.1, 1, "+10.0"),
        (-0.2, 0, "-20"),
    ],
)
def test_points_have_a_sign_unless_they_are_none(difference: float, digits: int, text: str) -> None:
    assert points(difference, digits) == text


def test_the_best_fixed_method_of_the_race_is_named_with_its_rate() -> None:
    winner, lora = images(both=10, winner=1, baseline=1)
    test = result("test", correct=winner, baselines_correct={"best_fixed": lora, "ssf": lora})
    baselines = {f"baseline:{name}": result("baseline", parameters=600, lr=3e-3) for name in ("ssf", "best_fixed")}
    stages = {"search": result("search"), "race": result("race"), "test": test, **baselines}
    raced, *compared = statements(Results(stages), "the winner")

    assert "won the race with" in raced
    assert compared[-3].startswith(
        "No difference between the winner and lora at 0.003, the best fixed method of the race, can be told: 0.0 points"
    )
    assert compared[-2].startswith("No difference between the winner and lora can be told")


def test_a_fixed_method_that_wins_is_called_one() -> None:
    race = result("race")
    first = race["candidates"][0] | {"kind": "method", "name": "lora_r8", "rate": 0.003, "start": "fresh"}
    other = first | {"kind": "searched", "name": "trial 3"}
    stages = {"race": race | {"candidates": [first, other]}, "search": result("search")}

    _, said, *_ = statements(Results(stages), "the winner")

    assert said.startswith("The winner is itself a fixed method, lora_r8 at 0.003: it was ahead of all subnets of the ")


def test_a_winner_that_is_the_best_fixed_method_is_not_compared_with_itself() -> None:
    race, (own, lora) = result("race"), images(both=10, winner=1, baseline=1)
    first = race["candidates"][0] | {"kind": "method", "name": "lora", "rate": 0.003, "start": "fresh"}
    stages = {
        "race": race | {"candidates": [first, first | {"kind": "searched", "name": "trial 3"}]},
        "search": result("search"),
        "refit": result("refit", weights="a" * 64),
        "baseline:best_fixed": result("baseline", weights="a" * 64),
        "baseline:ssf": result("baseline", weights="b" * 64),
        "test": result("test", correct=own, baselines_correct={"best_fixed": own, "ssf": lora}),
    }

    said = statements(Results(stages), "the winner")

    assert "and the best fixed method under the baselines is this very model." in said[1]
    assert [line for line in said if line.startswith("No difference")] == [said[2]]
    assert "the best fixed method of the race" not in said[2]


def test_a_fixed_method_that_raced_alone_beat_nobody() -> None:
    race = result("race")
    first = race["candidates"][0] | {"kind": "method", "name": "lora_r8", "rate": 0.003, "start": "fresh"}
    stages = {"race": race | {"candidates": [first]}, "search": result("search")}

    (said,) = statements(Results(stages), "the winner")

    assert "won the race" in said
