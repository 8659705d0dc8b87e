"""The parts of `scripts/suite.py`: tasks, arms, units of work and what they say together."""
