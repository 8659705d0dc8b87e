"""Architecture search for GLoRA supernets: the best parameter-efficient adapter for every layer, merged away."""

__version__ = "0.1.0"
