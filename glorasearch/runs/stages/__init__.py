"""The stages of a run, one module each; `runs.pipeline` puts them in order."""
