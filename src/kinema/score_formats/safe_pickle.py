"""Pickles read as data: arrays and plain containers, and not one call that the file asks for.

A pickle names functions for the reader to call. Here every permitted name stands for a small
function of this module that builds an array from bytes; every other name is refused. Not even
NumPy's own constructors are called, since a forged state can make them do harm.
"""

import io
import pickle
import re
from collections.abc import Callable, Iterable
from typing import IO, Any, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError

_DTYPE = re.compile(r"\?|O8?|[biufc]\d+|[SU]\d+")
_BROKEN = (
    pickle.UnpicklingError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


def load_pickle(handle: IO[bytes]) -> Any:  # noqa: ANN401
    """Read one pickle of any protocol, also of Python 2.

    Args:
        handle: open at the start of the pickle.

    Returns:
        Dicts, lists, tuples, sets, strings, numbers and NumPy arrays (tensors become arrays).

    Raises:
        KinemaError: the file asks for anything else, or is broken.
    """
    try:
        return _resolved(_Unpickler(handle, encoding="latin1").load())
    except _Refused as error:
        raise KinemaError(
            f"the pickle asks for '{error}' to be called while it is read: refused. Only arrays, "
            "tensors and plain containers are read; where you trust the file, save its scores "
            "again with numpy.savez in the program that made it."
        ) from error
    except _BROKEN as error:
        raise KinemaError(f"it cannot be read as a pickle of scores ({error}).") from error


class _Refused(Exception):  # noqa: N818
    """The pickle wants something that is not on the list."""


class _Unpickler(pickle.Unpickler):
    """Knows only the names below, under both the old and the new name of their modules."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:  # noqa: ANN401
        name = f"{module_name}.{global_name}".replace("__builtin__.", "builtins.")
        name = name.replace("numpy._core.", "numpy.core.")
        if name not in _STAND_INS:
            raise _Refused(f"{module_name}.{global_name}")
        return _STAND_INS[name]

    def persistent_load(self, pid: Any) -> NoReturn:  # noqa: ANN401
        raise _Refused(f"persistent object {pid}")


class _Dtype:
    """Stands for `numpy.dtype`: remembers the type's code and byte order."""

    def __init__(self, code: object, *_: object) -> None:
        self._code, self._order = str(code), "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if any(part is not None for part in state[2:5]):
            raise _Refused("numpy.dtype with fields")
        self._order = state[1]

    def dtype(self) -> np.dtype[Any]:
        """Return the plain type, made from a checked code."""
        if not _DTYPE.fullmatch(self._code):
            raise _Refused(f"numpy.dtype {self._code}")
        code = "O" if self._code.startswith("O") else self._code
        return np.dtype(f"{self._order if self._order in ('<', '>') else ''}{code}")


class _Array:
    """Stands for `numpy.ndarray`: remembers the state and builds the array from it."""

    def __init__(self) -> None:
        self._shape: tuple[int, ...] = ()
        self._data: Any = None
        self._dtype = _Dtype("f8")
        self._order: Literal["C", "F"] = "C"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self._shape, self._dtype, fortran, self._data = state
        self._order = "F" if fortran else "C"

    def array(self) -> NDArray[Any]:
        """Return the array; elements of object arrays are resolved too."""
        dtype = self._dtype.dtype()
        if dtype.hasobject:
            flat = np.empty(len(self._data), object)
            flat[:] = [None] * len(flat)
            for i, element in enumerate(self._data):
                flat[i] = _resolved(element)
            return flat.reshape(self._shape, order=self._order)
        return _from_bytes(self._data, self._dtype, self._shape, self._order)


def _new_array(*_: object) -> _Array:
    return _Array()


def _from_bytes(
    data: bytes | str, dtype: _Dtype, shape: Iterable[int], order: Literal["C", "F"] = "C"
) -> NDArray[Any]:
    raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
    flat: NDArray[Any] = np.frombuffer(raw, dtype.dtype()).copy()
    return flat.reshape(tuple(shape), order=order)


def _scalar(dtype: _Dtype, data: bytes | str = b"") -> Any:  # noqa: ANN401
    return _from_bytes(data, dtype, ()).item()


def _bytes(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise _Refused(f"_codecs.encode to {encoding}")
    return text.encode("latin1")


def _dict(pairs: Iterable[tuple[Any, Any]] = ()) -> dict[Any, Any]:
    return dict(pairs)


def _default_dict(*_: object) -> dict[Any, Any]:
    return {}


def _storage(data: bytes) -> object:
    """Read the memory of a tensor through PyTorch's own restricted reader."""
    import torch

    try:
        return torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise _Refused(f"a storage that is not plain ({error})") from error


def _tensor(
    storage: Any,  # noqa: ANN401
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    *_: object,
) -> NDArray[Any]:
    import torch

    if not isinstance(storage, torch.TypedStorage):
        raise _Refused("a tensor without a storage")
    flat = torch.tensor([], dtype=storage.dtype)
    tensor = flat.set_(storage._untyped_storage, offset, size, stride)
    plain = tensor.float() if tensor.is_floating_point() else tensor
    return np.array(plain.numpy())


_STAND_INS: dict[str, Callable[..., Any]] = {
    "numpy.core.multiarray._reconstruct": _new_array,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _from_bytes,
    "numpy.ndarray": _new_array,
    "numpy.dtype": _Dtype,
    "_codecs.encode": _bytes,
    "collections.OrderedDict": _dict,
    "collections.defaultdict": _default_dict,
    "builtins.dict": _dict,
    "builtins.list": list,
    "builtins.set": set,
    "builtins.int": int,
    "builtins.float": float,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch.storage._load_from_bytes": _storage,
}


def _resolved(value: Any) -> Any:  # noqa: ANN401
    """Put the arrays in the place of what stood for them."""
    if isinstance(value, _Array):
        return value.array()
    if isinstance(value, dict):
        return {_resolved(key): _resolved(element) for key, element in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_resolved(element) for element in value)
    return value
