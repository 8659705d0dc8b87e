"""The documentation as `make docs` builds it: every page, link, anchor and API reference is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import glorasearch
from glorasearch.runs import RunConfig
from glorasearch.search import SearchConfig
from glorasearch.training import TrainSection

ROOT = Path(__file__).resolve().parents[2]


def build(site: Path, *, config: Path = ROOT / "mkdocs.yml") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(config),
         "--site-dir", str(site)],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_builds_without_a_warning(site: Path) -> None:
    """mkdocs is strict: a link to a page or an anchor that is not there is a warning, and so an error."""
    assert (site / "index.html").is_file()


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("space", ["glorasearch.space.SearchSpace", "glorasearch.space.Subnet", "glorasearch.space.mutate"]),
        ("search", ["glorasearch.search.SearchDriver", "glorasearch.search.SearchConfig"]),
        ("runs", ["glorasearch.runs.Run", "glorasearch.runs.RunConfig"]),
        ("errors", ["glorasearch.errors.InputError"]),
    ],
)
def test_public_names_are_in_the_reference(site: Path, page: str, names: list[str]) -> None:
    html = (site / "api" / page / "index.html").read_text("utf-8")
    for name in names:
        assert f'id="{name}"' in html


def test_the_page_of_the_package_has_all_its_public_names(site: Path) -> None:
    """Described there, or linked to where they are."""
    html = (site / "api" / "glorasearch" / "index.html").read_text("utf-8")
    for name in set(glorasearch.__all__) - {"__version__"}:
        assert f'id="glorasearch.api.{name}"' in html or re.search(rf'<a [^>]*href="[^"]+\.{name}"', html), name


def test_every_option_of_a_run_file_is_on_its_page(site: Path) -> None:
    html = (site / "options" / "index.html").read_text("utf-8")
    for section, model in [("", RunConfig), ("train", TrainSection), ("search", SearchConfig)]:
        assert not section or f'id="{section}"' in html
        for key, field in model.model_fields.items():
            if not hasattr(field.annotation, "model_fields"):
                assert f"<code>{key}</code>" in html, key


def test_every_fence_became_a_block(site: Path) -> None:
    """Markdown of the site wants four spaces where that of a repository takes three."""
    for page in site.rglob("*.html"):
        assert "```" not in page.read_text("utf-8"), page


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    """A page works without a network: scripts, styles, fonts and images are the site's own."""
    for page in site.rglob("*.html"):
        html = page.read_text("utf-8")
        loaded = re.findall(r"<(?:script|img|iframe)\b[^>]*\bsrc=\"(https?:[^\"]+)", html)
        loaded += re.findall(r"<link\b(?=[^>]*\brel=\"(?:stylesheet|preconnect)\")[^>]*\bhref=\"(https?:[^\"]+)", html)
        assert not loaded, page


def test_a_dead_anchor_would_be_found(tmp_path: Path) -> None:
    """What `strict` finds depends on mkdocs's settings; with these it finds an anchor that no heading has."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# One\n\n[there](index.md#two) and [nowhere](gone.md)\n")
    settings = (ROOT / "mkdocs.yml").read_text("utf-8")
    validation = re.search(r"^validation:\n(?:  .*\n)+", settings, re.MULTILINE)
    assert validation is not None
    (tmp_path / "mkdocs.yml").write_text(f"site_name: x\nstrict: true\ndocs_dir: docs\n{validation[0]}")
    done = build(tmp_path / "site", config=tmp_path / "mkdocs.yml")
    assert done.returncode != 0
    assert "two" in done.stderr
    assert "gone.md" in done.stderr
