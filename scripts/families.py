"""Try a small model of every family of timm: adapt, train, merge and export it, load it by timm; say what came of it.

    python scripts/families.py                     # all families, some ten minutes on one core
    python scripts/families.py --only beit,swin_transformer_v2
    python scripts/families.py --write             # and write docs/families.json and the tables of docs and README

Models have random weights and small images: what is tried is that they work at all, and exactly.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import timm
import torch
from family_parts.members import MEMBERS
from family_parts.page import RESULTS, write_tables
from family_parts.trial import ALL_LAYERS, Outcome, try_member

from glorasearch.space import SearchSpace


def main(arguments: list[str]) -> int:
    """Run the command line; 1 if a family has a problem."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="families, separated by commas")
    parser.add_argument("--space", help="a shipped search space or a file; without it, all linear layers, convolutions")
    parser.add_argument("--write", action="store_true", help="write the results and the tables that are made of them")
    parser.add_argument("--out", type=Path, help="write the results as JSON there")
    given = parser.parse_args(arguments)
    wanted = given.only.split(",") if given.only else [member.family for member in MEMBERS]
    unknown = set(wanted) - {member.family for member in MEMBERS}
    if unknown:
        parser.error(f"no families {', '.join(sorted(unknown))}; there are {', '.join(m.family for m in MEMBERS)}")
    space = SearchSpace.load(given.space) if given.space else SearchSpace.from_dict(ALL_LAYERS)
    torch.set_num_threads(1)
    outcomes: list[Outcome] = []
    for member in MEMBERS:
        if member.family in wanted:
            outcomes.append(try_member(member, space))
            one = outcomes[-1]
            result = one.problem or f"{one.layers}/{one.of} layers, {one.read} read, {one.difference:.1e}"
            print(f"{one.family:28} {one.model:36} {one.seconds:6.1f} s  {result}", flush=True)
    failed = [one for one in outcomes if one.problem]
    print(f"{len(outcomes) - len(failed)} of {len(outcomes)} families work with {space.name}")
    content = {
        "timm": timm.__version__,
        "space": f"`{space.name}`" if given.space else f"{space.name} adapted",
        "families": [one.to_dict() for one in outcomes],
    }
    for path in ([given.out] if given.out else []) + ([RESULTS] if given.write else []):
        path.write_text(json.dumps(content, indent=1) + "\n")
    if given.write:
        write_tables()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
