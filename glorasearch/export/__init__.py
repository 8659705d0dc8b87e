"""Export of a merged model as a plain timm directory, verified before it is visible, and what it predicts."""

from glorasearch.adapters.rebuild import check_exportable
from glorasearch.export.backbone_facts import BackboneFacts
from glorasearch.export.predictions import ExportedModel, Prediction
from glorasearch.export.subnet import export_subnet
from glorasearch.export.timm_directory import ExportReport, export_timm

__all__ = [
    "BackboneFacts",
    "ExportReport",
    "ExportedModel",
    "Prediction",
    "check_exportable",
    "export_subnet",
    "export_timm",
]
