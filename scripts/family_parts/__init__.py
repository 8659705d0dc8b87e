"""The parts of `families.py`: which models are tried, how, and the page that says what came of it."""
