"""Evaluating candidates in other processes: Ray actors and the executor that feeds them."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workers.ray_executor import RayExecutor

__all__ = ["RayExecutor"]


def __getattr__(name: str) -> Any:
    """Import the executor when it is asked for: a worker process, which needs only its actor, has no control plane."""
    if name == "RayExecutor":
        from workers.ray_executor import RayExecutor

        return RayExecutor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
