"""The Optuna dashboard over a workspace's database."""

from dashboards.app import make_app, make_server, serve

__all__ = ["make_app", "make_server", "serve"]
