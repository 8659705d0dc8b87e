"""The Optuna dashboard over a workspace's database."""

from dashboards.app import DashboardServer, make_app, make_server

__all__ = ["DashboardServer", "make_app", "make_server"]
