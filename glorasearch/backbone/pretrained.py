"""Loading pretrained weights by timm, with the proof that every tensor outside the head came from the file."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any, Final

from timm.models import _builder, _hub, load_state_dict
from torch import Tensor, nn

from glorasearch.adapters import head_names
from glorasearch.backbone.config import BackboneConfig
from glorasearch.backbone.fit import State, few, form, is_broken, other_kind, other_shape, pattern
from glorasearch.backbone.original_format import lost_blocks, names_in
from glorasearch.backbone.read import read_checkpoint
from glorasearch.backbone.unwrap import unwrap
from glorasearch.errors import BackboneError, first_line, first_sentence

_log = logging.getLogger(__name__)
_lock = threading.RLock()
_said: Final[set[str]] = set()


@contextmanager
def checked_loading(config: BackboneConfig, before: Callable[[nn.Module], None]) -> Iterator[Loading]:
    """While it is open, `timm.create_model(pretrained=True)` in this thread loads weights that fit, or raises.

    `before` is called with the model just before it loads.

    timm alone loads what fits, and leaves the rest at random values, if the classes are not as many as the file's. It
    also picks an entry of the file and takes prefixes off without a word, so local files are read here.

    Yields:
        What is to be told the model that was made (`Loading.check_done`).

    Raises:
        BackboneError: while loading, if tensors outside the head are not in the file, or are others there, or if the
            file has more of them.
    """
    thread, load, loading = threading.get_ident(), _builder.load_pretrained, Loading(config)
    readers: list[dict[str, Any]] = [vars(_builder), vars(_hub)]

    def load_checked(model: nn.Module, *args: Any, **kwargs: Any) -> None:
        if threading.get_ident() == thread:
            before(model)
            loading.run(load, model, *args, **kwargs)
        else:
            load(model, *args, **kwargs)

    def read_whole(path: Any, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == thread:
            return read_checkpoint(str(path))
        return load_state_dict(path, *args, **kwargs)

    with _lock:
        _builder.load_pretrained = load_checked
        for reader in readers:
            reader["load_state_dict"] = read_whole
        try:
            yield loading
        finally:
            _builder.load_pretrained = load
            for reader in readers:
                reader["load_state_dict"] = load_state_dict


class Loading:
    """timm's `load_pretrained` for one backbone, with checks before and after."""

    def __init__(self, config: BackboneConfig) -> None:
        self._done = False
        self._config = config
        self._given: list[str] | None = None
        """Names that the file has for the model, in the model's terms; None if the model reads the file itself."""
        self._state: Mapping[str, Any] = {}
        """What timm has converted."""
        self._found: list[str] = []
        """Names in the file as timm sees them before."""
        self._unused: list[str] = []
        """Those of them that the model does not have."""

    def check_done(self, model: nn.Module) -> None:
        """Refuse a model for which nothing was loaded in timm's way, but for tensors that are allowed to be missing.

        Raises:
            BackboneError: if tensors may be random.
        """
        heads = tuple(f"{head}." for head in head_names(model))
        if not self._config.pretrained or self._done:
            return
        if all(self._allowed(name) for name in _tensors(model) if not name.startswith(heads)):
            return
        raise BackboneError(
            f"backbone {self._config.name!r}: nothing was loaded in timm's way, so the weights may be random; if the "
            'model loads its weights itself, set backbone.allow_missing = ["*"], otherwise backbone.pretrained = false'
        )

    def run(
        self,
        load: Callable[..., None],
        model: nn.Module,
        pretrained_cfg: Mapping[str, Any] | None = None,
        *,
        filter_fn: Callable[..., Any] | None = None,
        strict: bool = True,
        **options: Any,
    ) -> None:
        """Load by `load`, and check; the parameters are those of timm's function."""
        own = _tensors(model)
        before = {name: (id(tensor), tensor._version) for name, tensor in own.items()}
        heads = tuple(f"{head}." for head in head_names(model))
        model_loads = model.load_state_dict

        def convert(checkpoint: Mapping[str, Any], _: nn.Module) -> Any:
            self._state = self._converted(checkpoint, model, own, filter_fn)
            return self._state

        def load_checked(state: Mapping[str, Any], *_: Any, **__: Any) -> Any:
            tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
            kept = {name: value for name, value in tensors.items() if not other_shape(name, value, own, heads)}
            kept = self._without(kept, own, [name for name in kept if other_kind(name, kept[name], own)])
            try:
                result = model_loads(kept, strict=False)
            except RuntimeError as error:
                result = model_loads(self._without_other_shapes(kept, own, error), strict=False)
            self._given = [name for name in state if not name.startswith(heads)]
            self._unused = [
                name
                for name in result.unexpected_keys
                if not name.startswith(heads) and tensors[name].is_floating_point()
            ]
            return result

        vars(model)["load_state_dict"] = load_checked
        logger = logging.getLogger(_builder.__name__)
        logger.addFilter(_is_news)
        try:
            # The classes of the file's background are of no interest: its classifier is not kept.
            load(model, {**(pretrained_cfg or {}), "label_offset": 0}, filter_fn=convert, strict=False, **options)
        except BackboneError:
            raise
        except RuntimeError as error:  # among them timm's, of the channels of the first convolution
            self._without_other_shapes(self._state, own, error)
            raise
        except Exception as error:
            raise self._unreadable(error) from error
        finally:
            logger.removeFilter(_is_news)
            del vars(model)["load_state_dict"]
        outside = {name: tensor for name, tensor in _tensors(model).items() if not name.startswith(heads)}
        missing = [
            name
            for name, tensor in outside.items()
            if (tensor.is_floating_point() or tensor.is_complex()) and before.get(name) == (id(tensor), tensor._version)
        ]
        self._check(model, missing, outside, pretrained_cfg or {})
        self._done = True

    def _converted(
        self,
        checkpoint: Mapping[str, Any],
        model: nn.Module,
        own: State,
        filter_fn: Callable[..., Any] | None,
    ) -> Any:
        """The tensors of the file in the model's terms, by our unwrapping and then by timm's conversion."""
        path, state = unwrap(checkpoint, own)
        if path:
            _say(
                f"backbone {self._config.name!r}: of the names in {self._source} {' '.join(path)} is taken off, and "
                f"{len(state)} tensors are left"
            )
        self._found = [str(name) for name in state]
        if filter_fn is None:
            return state
        try:
            try:
                return filter_fn(state, model)
            except TypeError:
                return filter_fn(state)
        except Exception as error:
            given = few(self._found)
            raise BackboneError(
                f"backbone {self._config.name!r}: timm cannot convert {self._source} for this model "
                f"({type(error).__name__}: {first_line(error)}): it has {given}; the model has {few(list(own))}. Give "
                "a file for this architecture, or the name of the file's"
            ) from error

    def _without_other_shapes(self, state: Mapping[str, Any], own: State, error: RuntimeError) -> dict[str, Any]:
        """What may be loaded, if all tensors of another shape are allowed to be missing.

        Raises:
            BackboneError: if they are not.
        """
        other = [name for name, value in state.items() if other_shape(name, value, own)]
        if not other:
            raise self._unreadable(error) from error
        return self._without(state, own, other)

    def _without(self, state: Mapping[str, Any], own: State, other: Sequence[str]) -> dict[str, Any]:
        """What is left of the file without tensors that the model has otherwise, if these are allowed to be missing.

        Raises:
            BackboneError: if they are not.
        """
        refused = [name for name in other if not self._allowed(name)]
        if refused:
            parts = ", ".join(
                f"{name} {form(state[name])} in the file and {form(own[name])} in the model" for name in refused[:3]
            )
            raise BackboneError(
                f"backbone {self._config.name!r}: {self._source} does not fit: {len(refused)} tensors have another "
                f"shape or kind: {parts}. {self._advice(refused)}"
            )
        return {name: value for name, value in state.items() if name not in other}

    def _check(self, model: nn.Module, missing: Sequence[str], outside: State, cfg: Mapping[str, Any]) -> None:
        """Refuse tensors that are at their random start, and tensors of the file for which the model has no place."""
        given = self._given if self._given is not None else names_in(cfg.get("file"))
        lost = lost_blocks(model, given) if self._given is None else self._unused
        refused = [name for name in missing if not self._allowed(name)]
        # Projectors and decoders of a pretraining are no part of the model; what is within its modules is.
        extra = [name for name in lost if hasattr(model, name.partition(".")[0]) and not self._allowed(name)]
        broken = [name for name, tensor in outside.items() if name not in missing and is_broken(tensor)]
        if broken:
            raise BackboneError(
                f"backbone {self._config.name!r}: {self._source} has values that are not finite, in {few(broken)}; "
                "give a file that is whole"
            )
        parts = []
        if refused:
            parts.append(f"{len(refused)} of the {len(outside)} tensors outside the head are not in it: {few(refused)}")
        if extra or (refused and lost):
            shown = extra or lost
            parts.append(f"{len(shown)} of the file have no place in the model: {few(shown)}")
        elif refused:
            parts.append(f"it has {few(given or self._found) or 'no tensors'}")
        if refused or extra:
            raise BackboneError(
                f"backbone {self._config.name!r}: {self._source} does not fit: {'; '.join(parts)}. "
                f"{self._advice([*refused, *extra])}"
            )
        if missing:
            _say(f"backbone {self._config.name!r}: not in {self._source}, and random: {few(missing)}")
        if lost:
            _say(f"backbone {self._config.name!r}: of {self._source} is not used: {few(lost)}")

    def _unreadable(self, error: Exception) -> Exception:
        """The error for a file that was given and has no weights that timm can read; others are explained elsewhere."""
        if self._config.checkpoint is None and not self._config.timm_name.startswith("local-dir:"):
            return error
        said = first_sentence(error).rstrip(".")
        return BackboneError(
            f"backbone {self._config.name!r}: {self._source} has no weights that can be read ({type(error).__name__}: "
            f"{said}). Allowed are .safetensors, what torch.save writes of a state_dict() (no whole models), and .npz "
            "in the original format of models that read it"
        )

    def _advice(self, names: Sequence[str]) -> str:
        args = ", ".join(key for key in self._config.args if key not in ("drop_rate", "drop_path_rate"))
        where = f"backbone.args (now {args})" if args else "backbone.args"
        found = list(dict.fromkeys(pattern(name) for name in names))
        patterns = ", ".join(f'"{one}"' for one in (found if len(found) <= 4 else ["<pattern>"]))
        return (
            f"Every tensor outside the head has to come from the file: change backbone.name or {where} to what it was "
            f"made with, give another file, or, if you know that it is right, set backbone.allow_missing = [{patterns}]"
        )

    def _allowed(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self._config.allow_missing)

    @property
    def _source(self) -> str:
        return repr(self._config.checkpoint) if self._config.checkpoint is not None else "the file of its weights"


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = model.state_dict(keep_vars=True)
    return tensors


def _is_news(record: logging.LogRecord) -> bool:
    """timm's remarks on tensors that do not fit, which are checked here."""
    return not record.getMessage().startswith(("Unexpected keys", "Missing keys", "Pretrained "))


def _say(text: str) -> None:
    """Log a message once per process, since a run builds its backbone several times."""
    if text not in _said:
        _said.add(text)
        _log.warning("%s", text)
