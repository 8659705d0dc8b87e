"""The curves of a run: what the database has of its measurements, where people look for them."""

from glorasearch.runs.curves.curves import Curves, Table, Writer
from glorasearch.runs.curves.rows import Row, opening, tag
from glorasearch.runs.curves.stored import stored_rows

__all__ = ["Curves", "Row", "Table", "Writer", "opening", "stored_rows", "tag"]
