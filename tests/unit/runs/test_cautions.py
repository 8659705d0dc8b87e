from __future__ import annotations

from typing import Any

import pytest
from support.stage_results import RESULTS, SPLIT, SPLITS, candidate, result

from glorasearch.runs.cautions import UNTRAINED, cautions, data_cautions, patience_caution
from glorasearch.runs.results import Correct, Results
from glorasearch.runs.statements import statements

BITS = {count: Correct.pack([True] * count + [False] * (100 - count)).to_json() for count in (50, 60, 90)}


def said_of(names: tuple[str, ...], *counts: tuple[int, ...]) -> tuple[str, ...]:
    """The cautions on splits with so many images of each class."""
    train, search, test = counts
    return data_cautions(names, train, search, test, {"search": sum(search), "test": sum(test)})


def test_data_that_suffices_is_not_spoken_of() -> None:
    assert said_of(("a", "b"), (40, 40), (60, 60), (50, 50)) == ()


def test_what_splits_are_too_small_for() -> None:
    single, unsearched, untested, search, small = said_of(("a", "b", "c"), (9, 1, 1), (3, 0, 0), (2, 0, 0))
    assert single == "One image alone (train + search) teaches 2 classes ('b', 'c')."
    assert untested == "No test image is of 2 classes ('b', 'c'): accuracies on the test split say nothing of it."
    none = "No search image is of 2 classes ('b', 'c'): what is chosen by the search split ignores it."
    assert (unsearched, search[:36]) == (none, "The search split is small, 3 images:")
    assert small == "The test split is small, 2 images: an accuracy there may be off by 41 points (95 %)."
    assert said_of(("a", "b"), (9, 1), (99, 1), (100, 1)) == ()


@pytest.mark.parametrize(("images", "said"), [(92, True), (93, False)])
def test_a_test_split_is_small_below_93_images(images: int, said: bool) -> None:
    assert bool(said_of(("a", "b"), (9, 9), (90, 9), (images - 40, 40))) is said


def test_few_images_that_end_a_training_are_said() -> None:
    assert patience_caution(93) == ""
    assert patience_caution(20).startswith(
        "20 training images judge when a training ends (train.patience): an accuracy"
    )
    assert "may be off by 20 points (95 %), so that is partly chance" in patience_caution(20)


@pytest.mark.parametrize(("train", "refit", "said"), [(5, 5, 0), (0, 5, 1), (0, 0, 2), (5, 0, 0)])
def test_what_was_not_trained_is_said(train: int, refit: int, said: int) -> None:
    found = cautions(Results({"train": result("train", steps=train), "refit": result("refit", steps=refit)}))
    assert len(found) == said
    assert UNTRAINED not in found[1:]
    assert (UNTRAINED in found) is (train == 0)


@pytest.mark.parametrize(("evaluated", "reused", "said"), [(1, 59, True), (2, 58, False), (1, 0, False)])
def test_a_search_of_one_subnet_is_said(evaluated: int, reused: int, said: bool) -> None:
    counts = {"trials": evaluated + reused, "evaluated": evaluated, "reused": reused, "parameters": 1200}
    found = cautions(Results({"search": result("search", **counts)}))
    assert ("All 60 trials of the search were one subnet, of 1,200 parameters" in " ".join(found)) is said
    assert len(found) == said


def test_what_was_tested_is_said_with_its_interval() -> None:
    def said(correct: dict[str, Any], **counts: list[int]) -> tuple[str, ...]:
        splits = SPLITS | {role: SPLIT | {"digest": role, "class_images": own} for role, own in counts.items()}
        return cautions(Results({"test": result("test", correct=correct, splits=splits | {"class_names": ["a", "b"]})}))

    eight = Correct.pack([True] * 5 + [False] * 3).to_json()
    assert said(eight) == ("The winner is right on 5 of 8 test images: its accuracy lies between 31 and 86 % (95 %).",)
    assert said(BITS[60], train=[40, 40], search=[9, 9], test=[50, 50]) == ()
    assert said(BITS[60], train=[40, 40], search=[9, 9], test=[45, 55]) == (
        "The winner is not better than guessing, as far as 100 test images can tell: always saying 'b', the most "
        "frequent class, is right on 55 of them, the winner on 60.",
    )
    first, *_ = said(eight, train=[40, 1], search=[9, 0], test=[7, 1])
    assert first == "One image alone (train + search) teaches class 'b'."


@pytest.mark.parametrize(
    ("refitted", "inherited", "conclusion"),
    [
        (60, 50, "The refit made the winner better: +10.0 points (95 %: "),
        (50, 60, "The refit made the winner worse: -10.0 points (95 %: "),
        (50, 50, "No difference between the refitted winner and its inherited weights can be told: 0.0 points"),
    ],
)
def test_what_a_refit_added_is_said(refitted: int, inherited: int, conclusion: str) -> None:
    tested = result("test", correct=BITS[refitted], correct_inherited=BITS[inherited])
    stages = {"search": RESULTS["search"], "refit": RESULTS["refit"], "test": tested}
    (said,) = (one for one in statements(Results(stages), "the winner") if "refit" in one)
    assert said.startswith(conclusion)
    stages["refit"] = result("refit", steps=0)
    assert not any("refit" in one for one in statements(Results(stages), "the winner"))


@pytest.mark.parametrize(("rival", "said"), [(0.75, True), (0.66, True), (0.65, False)])
def test_a_lead_that_the_images_leave_open_is_said(rival: float, said: bool) -> None:
    """Of 75 right in 100 images the interval is 65.7 to 82.5 %."""
    race = result("race", candidates=[candidate("trial 3", "searched", 0.75), candidate("lora", "method", rival)])
    found = cautions(Results({"race": race}))
    assert (
        any("points between trial 3 at 0.003 and lora at 0.003 in the race are less than" in one for one in found)
        is said
    )


@pytest.mark.parametrize(
    ("own", "baseline", "said"),
    [({"steps": 6}, {"steps": 5}, True), ({"steps": 5}, {"steps": 5}, False), ({"steps": 6}, {"steps": 9}, True),
     ({"steps": 6, "kept_step": 6}, {"steps": 5}, False), ({"steps": 6}, {"steps": 5, "kept_step": 4}, False)],
)  # fmt: skip
def test_a_baseline_that_was_trained_for_less_or_more_is_said(
    own: dict[str, Any], baseline: dict[str, Any], said: bool
) -> None:
    method = result("baseline", space="lora", parameters=1, lr=1e-3, **baseline)
    found = cautions(Results({"refit": result("refit", **own), "baseline:best_fixed": method}))
    assert found == (
        f"The winner was refitted for 6 steps, best_fixed for {baseline['steps']}: what they differ by may come from "
        "that; "
        "report.steps = 6 trains them as long.",
    ) * said  # fmt: skip


def test_copies_in_several_folds_are_said() -> None:
    (said,) = cautions(Results({"race": result("race", copies_apart=4)}))
    assert said.startswith("4 images have an equal one in another fold of the race")


@pytest.mark.parametrize("kind", ["named", "searched", "method"])
def test_a_winner_that_people_know_is_said(kind: str) -> None:
    race = result("race", candidates=[candidate("lora:8 everywhere", kind, 0.75)])
    found = [one for one in statements(Results({"race": race}), "the winner") if "neither search nor supernet" in one]
    assert len(found) == (kind == "named")
    assert all("a named point, lora:8 everywhere at 0.003" in one for one in found)
