"""The base class of stage results: frozen, and the only place that reads and writes their JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from glorasearch.space import Subnet


def _subnet(value: Any) -> Subnet:
    """A stored subnet was checked when it was found, so results can be read without the plugins that it names."""
    if isinstance(value, Subnet):
        return value
    return Subnet({(layer, tensor): choice for layer, tensors in value.items() for tensor, choice in tensors.items()})


SubnetField = Annotated[Subnet, BeforeValidator(_subnet), PlainSerializer(Subnet.to_dict)]
"""A subnet; in JSON layer → support tensor → choice."""


class FrozenModel(BaseModel):
    """A frozen model with a JSON form; nested objects are reduced to the fields that are declared."""

    model_config = ConfigDict(
        frozen=True,
        arbitrary_types_allowed=True,
        revalidate_instances="subclass-instances",
        from_attributes=True,
    )

    def to_json(self) -> dict[str, Any]:
        """As a dictionary of JSON values."""
        return self.model_dump(mode="json")

    @classmethod
    def of(cls, source: object, **given: Any) -> Self:
        """The fields of this class, taken from an object that has them, except for those that are `given`."""
        taken = [name for name in cls.model_fields if name not in given and hasattr(source, name)]
        return cls.model_validate({name: getattr(source, name) for name in taken} | given)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls.model_validate(dict(content))


class StageResult(FrozenModel):
    """The result of a finished stage."""

    stage: ClassVar[str]
    """The stage's name; where there are several of a kind, the part before the colon: `baseline` of `baseline:lora`."""
    types: ClassVar[dict[str, type[StageResult]]] = {}
    """Stage → the class of its result."""

    def __init_subclass__(cls, *, stage: str | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if stage is not None:
            cls.stage = stage
            StageResult.types[stage] = cls
