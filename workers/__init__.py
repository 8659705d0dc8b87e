"""What runs on a Ray cluster: actors that evaluate candidates, supernet training, tasks of a sweep, submitted runs."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workers.ray_executor import RayExecutor

__all__ = ["RayExecutor"]


def __getattr__(name: str) -> Any:
    """Import the executor on first use: a worker process needs only its actor, and no control plane."""
    if name == "RayExecutor":
        from workers.ray_executor import RayExecutor

        return RayExecutor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
