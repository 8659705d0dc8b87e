"""Many adapters on one resident backbone."""

from glorasearch.serving.served import ServedAdapter
from glorasearch.serving.server import AdapterServer
from glorasearch.serving.stats import ServerStats

__all__ = ["AdapterServer", "ServedAdapter", "ServerStats"]
