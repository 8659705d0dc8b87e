"""Runs: the stages from a run file to a merged model and a report."""

from glorasearch.jobs.job import Job
from glorasearch.jobs.pipeline import run_stages
from glorasearch.jobs.progress import Advance, Progress, Silent
from glorasearch.jobs.run_file import RunFile
from glorasearch.jobs.workspace import Workspace

__all__ = ["Advance", "Job", "Progress", "RunFile", "Silent", "Workspace", "run_stages"]
