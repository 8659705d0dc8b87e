"""mkdocs hook: pages that live outside `docs/`, links written for a reader of the repository, the options' table.

Every Markdown file links by paths of the repository, so that the links work there, too. On the site a link to a page
leads to that page, and a link to another file of the repository becomes plain text. The options of run files are made
from the fields of `RunConfig`.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "search_spaces/README.md"]
OUTSIDE += [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("workers/launch/**/README.md"))]
LINK = re.compile(r"(?P<image>!?)\[(?P<label>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<target>[^()\s]+)\)")
OPTIONS = "<!-- options -->"
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)


def on_files(files: Files, *, config: Any, **_: Any) -> Files:
    """Add the pages outside `docs/`, each under its path in the repository."""
    for path in OUTSIDE:
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, files: Files, **_: Any) -> str:
    """Rewrite the links of a page from paths of the repository to those of the site."""
    source = page.file.src_uri
    if OPTIONS in markdown:
        markdown = markdown.replace(OPTIONS, _options())
    folder = posixpath.dirname(source if source in OUTSIDE else f"docs/{source}")

    def rewrite(link: re.Match[str]) -> str:
        target, hash_sign, anchor = link["target"].partition("#")
        if not target or ":" in target:
            return link[0]
        path = posixpath.normpath(posixpath.join(folder, target))
        uri = path if path in OUTSIDE else path.removeprefix("docs/") if path.startswith("docs/") else None
        if uri is not None and files.get_file_from_path(uri) is not None:
            place = posixpath.relpath(uri, posixpath.dirname(source) or ".")
            return f"{link['image']}[{link['label']}]({place}{hash_sign}{anchor})"
        return link["label"] if (ROOT / path).exists() else link[0]  # what is missing is left for mkdocs to report

    parts, end = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [LINK.sub(rewrite, markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, LINK.sub(rewrite, markdown[end:])])


def _options() -> str:
    """The reference of all options, of the glorasearch beside this file."""
    sys.path.insert(0, str(ROOT))
    try:
        from glorasearch.runs.template import reference
    finally:
        sys.path.remove(str(ROOT))
    return reference()
