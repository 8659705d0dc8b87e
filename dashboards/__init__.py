"""Pages of a workspace's runs, and the Optuna dashboard over its database."""

from dashboards.app import DashboardServer, make_app, make_server
from dashboards.tokens import check_token

__all__ = ["DashboardServer", "check_token", "make_app", "make_server"]
