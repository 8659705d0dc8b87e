"""Pages of our own beside Optuna's: the runs, a run, a trial, runs compared. No torch, no network, no inline script."""

from dashboards.pages.figures_page import Figures
from dashboards.pages.reading import Reader
from dashboards.pages.routes import make_pages

__all__ = ["Figures", "Reader", "make_pages"]
