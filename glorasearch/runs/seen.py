"""Whether the images are still those that the finished stages saw."""

from __future__ import annotations

from glorasearch.errors import DataError
from glorasearch.runs.results import PilotResult, RaceResult, SearchResult, TrainedResult
from glorasearch.runs.session import Session
from glorasearch.runs.stage_result import StageResult


def check_data(session: Session) -> None:
    """Refuse other images than the finished stages saw: training images may now be in the test split.

    Raises:
        DataError: naming the stage and the source.
    """
    data, searched = session.data, session.stored.searched
    seen: list[tuple[str, str, StageResult]] = []
    if searched is not None:
        seen += [(searched.name, "train", searched.train), (searched.name, "search", searched.search)]
    if not session.fresh:
        seen += [(session.name, stage, result) for stage, result in session.stored.results.items()]
    for name, stage, result in seen:
        kinds = (PilotResult, TrainedResult, SearchResult, RaceResult)
        before = result.split if isinstance(result, kinds) else None
        if before is None:
            continue
        single = {"train": data.train, "search": data.search}.get(stage)
        now = (data.train_and_search() if single is None else single).digest
        if now != before:
            raise DataError(
                f"{session.config.data.source}: the images are not those that stage {stage!r} of run {name!r} "
                f"saw (digest {before[:12]} then, {now[:12]} now). Put them back as they were, give this run another "
                "name with --set name=<name>, or start over with --fresh"
            )
