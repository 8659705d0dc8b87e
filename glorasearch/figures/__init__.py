"""What a run did, as figures: one reading of its records, drawn on pages, in reports and as pictures.

`RunFacts.read(database, name, folder)` reads everything that a run has recorded; the folder is optional.
`figures_of(facts)` gives what there is to draw, each a `Figure`: key, title, caption and a Vega-Lite specification
with its data in it, in no colours of its own: `theme("light")` or `theme("dark")` is the `config` to embed it with.
`lacking(facts, figures)` says why others are not drawn. With `figures_of(facts, trial_link=...)` points of trials
lead to their pages; a page embeds by `vegaEmbed(element, spec, {config, ast: true, actions: false})`, and
`draw(figure, "png")` makes a picture of it. `subnet(number, genes)` is the figure of a trial.

A run under way, one of an earlier version or one without a race has the figures of what it has recorded. No torch.
"""

from glorasearch.figures.drawn import draw, library, theme
from glorasearch.figures.facts import RunFacts, TrialFact
from glorasearch.figures.figure import Figure
from glorasearch.figures.of_run import figures_of, lacking
from glorasearch.figures.trial import subnet

__all__ = ["Figure", "RunFacts", "TrialFact", "draw", "figures_of", "lacking", "library", "subnet", "theme"]
