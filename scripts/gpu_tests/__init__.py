"""The parts of `scripts/test_gpu.py`: what tests there are, who runs which when on which card, and how each ended."""
