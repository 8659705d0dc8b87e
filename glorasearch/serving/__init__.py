"""Many adapters on one resident backbone."""
