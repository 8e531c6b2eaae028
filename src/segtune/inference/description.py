"""The schema of `segmenter.json`: what a description must hold before a model is built from it."""

from collections.abc import Mapping
from itertools import chain
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from segtune.errors import DataError

_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0.0, le=1.0)]
_Name = Annotated[str, Field(min_length=1, max_length=1000)]
_Side = Annotated[int, Field(ge=1, le=1 << 16)]
_Number = Annotated[int, Field(ge=-(1 << 31), lt=1 << 31)]
_Option = None | bool | _Number | _Finite | str


class _Section(BaseModel):
    # other versions of segtune may write more
    model_config = ConfigDict(extra="allow", strict=True)


class _Preprocessing(_Section):
    mean: Annotated[list[_Share], Field(min_length=3, max_length=3)]
    std: Annotated[list[Annotated[float, Field(gt=0.0, le=1.0)]], Field(min_length=3, max_length=3)]
    multiple: Annotated[int, Field(ge=1, le=4096)]


class _Model(_Section):
    architecture: str = ""
    encoder: str = ""
    __pydantic_extra__: dict[str, _Option | list[Any] | dict[str, Any]]


class _Trained(_Section):
    model: _Model
    preprocessing: _Preprocessing
    classes: Annotated[list[str | dict[str, Any]], Field(min_length=1)]
    image_size: Annotated[list[_Side], Field(min_length=1, max_length=2)]
    dataset: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    versions: dict[str, str] = {}
    plugins: dict[str, dict[str, Any]] = {}


class _Labeler(_Trained):
    concept: _Name
    min_area: Annotated[int, Field(ge=0)]


class _Workflow(_Section):
    name: _Name
    config: dict[str, Any]
    models: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=1000)]
    parts: list[Any] | dict[str, Any]


_SMALL_SIZE = 64
_SCHEMAS: dict[str, type[_Section]] = {
    "segmenter": _Trained,
    "labeler": _Labeler,
    "workflow": _Workflow,
}


def check_description(
    kind: str, info: Mapping[str, Any], tensors: Mapping[str, Tensor], name: str
) -> None:
    """Check the description of a model before anything is built from it.

    Args:
        kind: `segmenter`, `labeler` or `workflow`.
        tensors: the weights. A size of the model, such as its width or depth, is a side of a tensor
            or a number of tensors; a larger one would only take memory and time.
        name: names the model in the message.

    Raises:
        DataError: names the first key that is missing or wrong.
    """
    try:
        _SCHEMAS[kind].model_validate(dict(info))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise DataError(
            f"{kind} '{name}': its description is not valid at '{key[:200]}': {first['msg']}. "
            "Take an unchanged copy."
        ) from None
    model = dict(info.get("model", {}))
    if f"architecture/{model.get('architecture')}" in info.get("plugins", {}):
        return  # the sizes of a plugin's network may mean anything
    sides = chain.from_iterable(tensor.shape for tensor in tensors.values())
    largest = max([_SMALL_SIZE, len(tensors), *sides])
    for section in (model, dict(model.get("member", {}))):  # an ensemble's networks have their own
        for key, value in section.items():
            if isinstance(value, int) and value > largest:
                raise DataError(
                    f"{kind} '{name}': its description says model.{key}={value}, but its weights "
                    f"hold nothing larger than {largest}. Take an unchanged copy."
                )
