"""A run in one HTML file that needs no network: result, provenance, commands, figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from jinja2 import Environment, select_autoescape

from glorasearch.figures.drawn import library, theme
from glorasearch.figures.facts import RunFacts
from glorasearch.figures.figure import Figure
from glorasearch.figures.told import commands, metrics, provenance, run_files, said, table
from glorasearch.runs.output_rows import output_rows

_PAGE: Final = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{{ name }}: glorasearch</title>
<style>:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:0 auto;padding:1rem;
background:#fff;color:#1f2328}table{border-collapse:collapse;display:block;overflow-x:auto}td,th{padding:.3rem .8rem;
text-align:left;border-bottom:1px solid #8886;overflow-wrap:anywhere}table+table{margin-top:1rem}
.n td,.n th{overflow-wrap:normal}figcaption,small{opacity:.85}figure{margin:1rem 0}
.note{white-space:pre-wrap;overflow-wrap:anywhere;border-left:3px solid #8886;padding-left:.8rem}
svg{max-width:100%;height:auto}pre{white-space:pre-wrap;overflow-wrap:anywhere}@media(prefers-color-scheme:dark){body{background:#16191d;
color:#e6edf3}}</style></head><body><h1>{{ name }}</h1><p>{{ state }}{% if error %}: {{ error }}{% endif %}</p>
{% if note %}<p class="note">{{ note }}</p>{% endif %}
{% for line in said %}<p>{{ line }}</p>{% endfor %}
{% if table %}<h2>Test images</h2><table><tr><th>method<th>parameters<th>test<th>95 % interval</tr>
{% for row in table %}<tr>{% for cell in row %}<td>{{ cell }}{% endfor %}</tr>{% endfor %}</table>{% endif %}
{% if metrics %}<table><tr>{% for cell in metrics[0] %}<th>{{ cell }}{% endfor %}</tr>
{% for row in metrics[1:] %}<tr>{% for cell in row %}<td>{{ cell }}{% endfor %}</tr>{% endfor %}</table>{% endif %}
{% if outputs %}<table class="n"><tr>{% for cell in outputs[0] %}<th>{{ cell }}{% endfor %}</tr>
{% for row in outputs[1:] %}<tr>{% for cell in row %}<td>{{ cell }}{% endfor %}</tr>{% endfor %}</table>{% endif %}
{% for figure in figures %}<figure><h2>{{ figure.title }}</h2><div id="{{ figure.key }}"></div>
<figcaption>{{ figure.caption }}</figcaption></figure>{% endfor %}
{% if lacking %}<h2>Not drawn</h2><ul>{% for line in lacking %}<li>{{ line }}{% endfor %}</ul>{% endif %}
<h2>Provenance</h2><table>{% for key, value in provenance %}<tr><th>{{ key }}<td>{{ value }}</tr>{% endfor %}</table>
<h2>Again</h2><pre>{% for line in commands %}{{ line }}
{% endfor %}</pre>{% for file, content in run_files %}<details><summary>{{ file }}</summary>
<pre>{{ content }}</pre></details>{% endfor %}
<noscript>Figures need JavaScript; `glorasearch report --png FOLDER` draws them as pictures.</noscript>
<script type="module">{{ bundle|safe }}</script>
<script type="module">const specs={{ specs|safe }},themes={{ themes|safe }};
const dark=matchMedia("(prefers-color-scheme: dark)");
function draw(){for(const key in specs)vegaEmbed("#"+key,specs[key],{config:themes[dark.matches?"dark":"light"],
actions:false,renderer:"svg",ast:true})}dark.addEventListener("change",draw);draw()</script></body></html>"""


def html_report(facts: RunFacts, figures: Sequence[Figure], lacking: Sequence[str]) -> str:
    """The page."""
    report, record = facts.report, facts.record
    environment = Environment(autoescape=select_autoescape(default=True, default_for_string=True))
    bundle = library().replace("</script", "<\\/script")
    return environment.from_string(_PAGE).render(
        name=record.name,
        state=str(record.state),
        error=record.error,
        note=facts.note,
        said=() if report is None else said(report),
        table=() if report is None else table(report, facts.tested),
        metrics=() if report is None else metrics(report),
        outputs=() if report is None else output_rows(report),
        figures=figures,
        lacking=lacking,
        provenance=provenance(facts),
        commands=commands(facts),
        run_files=run_files(facts),
        bundle=bundle,
        specs=_script({figure.key: figure.spec for figure in figures}),
        themes=_script({"light": theme("light"), "dark": theme("dark")}),
    )


def _script(value: Any) -> str:
    return json.dumps(value).replace("<", "\\u003c")
