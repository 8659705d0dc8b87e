"""Exports of a trained subnet, merged or as an adapter, verified before they are visible, and what they predict."""

from glorasearch.adapters.rebuild import check_exportable
from glorasearch.export.adapted import AdaptedModel
from glorasearch.export.adapter import Adapter
from glorasearch.export.backbone_facts import BackboneFacts
from glorasearch.export.formats import compare_format, export_format
from glorasearch.export.predictions import ExportedModel, Prediction
from glorasearch.export.subnet import export_subnet
from glorasearch.export.timm_directory import ExportReport, export_timm

__all__ = [
    "AdaptedModel",
    "Adapter",
    "BackboneFacts",
    "ExportReport",
    "ExportedModel",
    "Prediction",
    "check_exportable",
    "compare_format",
    "export_format",
    "export_subnet",
    "export_timm",
]
