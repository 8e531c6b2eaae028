"""Check the records of a study in a file: a damaged one gives a message, not a false figure."""

from typing import Annotated, Any

import optuna
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from segtune.errors import StorageError


class _Record(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class _Pulse(_Record):
    phase: str
    seconds: float
    left: float | None
    at: float


class _Trial(_Record):
    """The values of a trial that commands read, each absent until it is recorded."""

    values: list[float] | None
    params: dict[str, Any]
    intermediate_values: dict[int, float]
    run: str | None = None
    overrides: list[str] | None = None
    lease: dict[str, Any] | None = None
    retried: bool | None = None
    retry_of: int | None = None
    seconds: float | None = None
    pulse: _Pulse | None = None
    num_epochs: int | None = None
    curve: dict[Any, float] | None = None
    miou: float | None = None
    cost: dict[str, float] | None = None


_Objective = Annotated[str, Field(pattern="/")]


def _as_list(objective: Any) -> Any:
    return [objective] if isinstance(objective, str) else objective


class _Spec(_Record):
    objective: Annotated[list[_Objective], BeforeValidator(_as_list)] = []
    n_trials: int | None = None


class _Study(_Record):
    spec: _Spec | None = None
    words: list[str] | None = None
    folder: str | None = None
    retried: list[int] | None = None


def check_records(study: optuna.Study, place: str) -> None:
    """Check the types of what a study records.

    Args:
        place: of the study, for the message.

    Raises:
        StorageError: a record is damaged.
    """
    where = "the study"
    try:
        spec = _Study.model_validate(study.user_attrs).spec
        if spec and spec.objective and len(spec.objective) != len(study.directions):
            raise ValueError(f"it has {len(study.directions)} directions for {spec.objective}")
        for trial in study.get_trials(deepcopy=False):
            where = f"trial {trial.number}"
            own: dict[str, Any] = {"values": trial.values, "params": trial.params}
            own["intermediate_values"] = trial.intermediate_values
            _Trial.model_validate({**trial.user_attrs, **own})
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"]))
        raise _damaged(place, f"{where}: {key}: {fault['msg']}") from None
    except Exception as error:  # a damaged line may raise anything
        raise _damaged(place, f"{where}: {type(error).__name__}: {error}") from None


def _damaged(place: str, reason: str) -> StorageError:
    return StorageError(f"the study '{place}' is damaged ({reason[:300]}). Restore it from a copy.")
