"""The distribution of sizes of random subnets, as a table with bars."""

from __future__ import annotations

from typing import Final

from glorasearch.cli.output import count
from glorasearch.quantities import percent
from glorasearch.space import SimulatedSizes, Sizes

BAR: Final = 14
"""Characters of the longest bar."""


def print_sizes(found: SimulatedSizes) -> None:
    """Print quantiles and histogram; of both kinds of draws where the budget makes a difference."""
    from rich import box
    from rich.table import Table

    from glorasearch.plain_console import PlainConsole

    console = PlainConsole()
    kinds = {"uniform": found.uniform}
    if found.within_budget < 1:
        kinds["search"] = found.searched
    table = Table(box=box.SIMPLE, title="trainable parameters", title_justify="left")
    table.add_column("from", justify="right", no_wrap=True, min_width=len(count(found.edges[-1])))
    for kind in kinds:
        table.add_column(kind, no_wrap=True)
    most = max(max(sizes.counts) for sizes in kinds.values())
    for number, edge in enumerate(found.edges[:-1]):
        table.add_row(count(edge), *(_bar(sizes.counts[number], found.draws, most) for sizes in kinds.values()))
    console.print(table)
    for kind, sizes in kinds.items():
        console.print(f"{kind}: {_line(sizes)}", soft_wrap=True)
    also = "" if found.within_budget == 1 else "; search: as many within it, as a search draws them"
    console.print(
        f"{found.draws:,} subnets drawn uniformly (seed {found.seed}), {percent(found.within_budget)} of them within "
        f"the budget{also}",
        soft_wrap=True,
    )


def _bar(number: int, draws: int, most: int) -> str:
    bar = "█" * round(BAR * number / most)
    return f"{percent(number / draws):>7} {bar}"


def _line(sizes: Sizes) -> str:
    shares = {f"{100 * float(share):g} %": size for share, size in sizes.quantiles.items()}
    least, *inner, largest = shares.values()
    names = list(shares)[1:-1]
    between = ", ".join(f"{name} up to {size:,}" for name, size in zip(names, inner, strict=True))
    return f"smallest {least:,}, {between}, largest {largest:,}; mean {sizes.mean:,.0f}"
