"""Pages of our own beside Optuna's: runs, a run, a trial, runs compared, forms. No torch, network or inline script."""

from dashboards.pages.figures_page import Figures
from dashboards.pages.forms import Forms
from dashboards.pages.reading import Reader
from dashboards.pages.routes import make_pages

__all__ = ["Figures", "Forms", "Reader", "make_pages"]
