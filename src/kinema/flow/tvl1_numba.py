"""What the TV-L1 kernels need and numba does not offer: rows as pointers known to be distinct.

A loop over several rows becomes vector instructions only if the compiler knows that writing one row
changes no other. So inner loops are functions of pointers, one per row, that call `distinct`.
"""
# mypy: disable-error-code="no-untyped-call, import-untyped"

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

Planes = NDArray[np.float32]  # (planes, rows, columns)
Row: TypeAlias = Any  # pointer to a float of a plane, to be indexed along the row
Rows: TypeAlias = Any  # tuple of pointers
Size = tuple[int, int]  # H and W
Code: TypeAlias = Any  # what numba passes to functions that write machine code
Function = TypeVar("Function", bound=Callable[..., Any])

_ORDER_FREE = ("contract", "reassoc")


def kernel(function: Function) -> Function:
    """Compile a function that Python calls; the machine code is kept on disk if that is possible.

    It is kept beside the source or, where that cannot be written, in the user's cache folder.
    """
    try:
        return _compiled(function, cache=True)
    except RuntimeError:  # numba found no folder to write to
        return _compiled(function)


def part(function: Function) -> Function:
    """Compile a function that only kernels call."""
    return _compiled(function, no_cpython_wrapper=True)


def _compiled(function: Function, **more: bool) -> Function:
    options: dict[str, Any] = {"nogil": True, "fastmath": True, "error_model": "numpy", **more}
    compiled: Any = njit(**options)
    return cast("Function", compiled(function))


def _at(typing_context: Code, planes: Code, plane: Code, y: Code, x: Code) -> Code:
    """Return a pointer to an element of (planes, rows, columns); x may be outside of the row."""

    def generate(context: Code, builder: Code, signature: Code, arguments: Code) -> Code:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.ptrtoint(array.data, ir.IntType(64))
        for axis, index in enumerate(arguments[1:]):
            stride = builder.extract_value(array.strides, axis)
            address = builder.add(address, builder.mul(index, stride))
        return builder.inttoptr(address, array.data.type)

    pointer = types.CPointer(planes.dtype)
    return pointer(planes, types.intp, types.intp, types.intp), generate


def _distinct(typing_context: Code) -> Code:
    """Promise that what the calling function writes through one of its pointers is in no other."""

    def generate(context: Code, builder: Code, signature: Code, arguments: Code) -> Code:
        for argument in builder.function.args:
            if argument.name.startswith("arg.") and argument.type.is_pointer:
                argument.add_attribute("noalias")
        return context.get_dummy_value()

    return types.void(), generate


def _blend(
    typing_context: Code, target: Code, x: Code, source: Code, place: Code, stride: Code, w: Code
) -> Code:
    """Write a pixel as the weighted sum of 4 x 4 pixels; a pixel is 4 floats, aligned to 16 bytes.

    Args:
        typing_context: numba's.
        target: pointer to the first pixel of a row.
        x: which pixel of that row is written.
        source: pointer to the first pixel of a picture.
        place: floats from there to the first of the 4 x 4 pixels.
        stride: floats from a row of the picture to the next.
        w: the weights of the four columns, then of the four rows.
    """

    def generate(context: Code, builder: Code, signature: Code, arguments: Code) -> Code:
        out, pixel, pixels, first, step, weights = arguments
        lanes = [_in_all_lanes(builder, builder.extract_value(weights, i)) for i in range(8)]
        rows = []
        for _ in range(4):
            taps = [builder.load(_four(builder, pixels, first, 4 * i), align=16) for i in range(4)]
            rows.append(_weighted_sum(builder, taps, lanes[:4]))
            first = builder.add(first, step)
        total = _weighted_sum(builder, rows, lanes[4:])
        out_place = builder.mul(pixel, ir.Constant(pixel.type, 4))
        builder.store(total, _four(builder, out, out_place, 0), align=16)
        return context.get_dummy_value()

    eight = types.UniTuple(types.float32, 8)
    return types.void(target, types.intp, source, types.intp, types.intp, eight), generate


def _four(builder: Code, pointer: Code, offset: Code, more: int) -> Code:
    """Return a pointer to the vector of four floats at offset + more."""
    place = builder.gep(pointer, [builder.add(offset, ir.Constant(offset.type, more))])
    return builder.bitcast(place, ir.VectorType(ir.FloatType(), 4).as_pointer())


def _in_all_lanes(builder: Code, value: Code) -> Code:
    empty = ir.Constant(ir.VectorType(ir.FloatType(), 4), ir.Undefined)
    vector = builder.insert_element(empty, value, ir.Constant(ir.IntType(32), 0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), 4), [0] * 4)
    return builder.shuffle_vector(vector, empty, lanes)


def _weighted_sum(builder: Code, vectors: list[Code], weights: list[Code]) -> Code:
    terms = [
        builder.fmul(vector, weight, flags=_ORDER_FREE)
        for vector, weight in zip(vectors, weights, strict=True)
    ]
    total = terms[0]
    for term in terms[1:]:
        total = builder.fadd(total, term, flags=_ORDER_FREE)
    return total


at: Callable[..., Row] = intrinsic(_at)
distinct: Callable[..., None] = intrinsic(_distinct)
blend: Callable[..., None] = intrinsic(_blend)
