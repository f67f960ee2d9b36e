"""Reading the MNIST pickle without running it.

A pickle is a program, and the standard machine for it runs whatever the file names. This is a machine that knows only
the instructions that a pickle of numpy arrays needs, builds inert descriptions instead of objects, and hands numpy
nothing but a checked type, a checked shape and bytes. The three names that such a pickle must call,
``numpy.core.multiarray._reconstruct`` (``numpy._core`` since numpy 2), ``numpy.ndarray`` and ``numpy.dtype``, are
recognised and never imported; every other name, and every other instruction, is refused.

The file that people have was written by Python 2, whose strings stand for bytes: they are read as latin-1.
"""

from __future__ import annotations

import math
import pickletools
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from baton.dataset.source import Source
from baton.errors import InvalidDataset

Array = npt.NDArray[Any]

MAX_INSTRUCTIONS = 5_000
"""MNIST needs 146; this leaves room for other writers and none for a program that only burns time."""

MAX_DIMENSIONS = 4
SCALAR_TYPES = frozenset(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)) | {"f4", "f8"}

_RECONSTRUCT = ("numpy.core.multiarray", "_reconstruct")
_NDARRAY = ("numpy", "ndarray")
_DTYPE = ("numpy", "dtype")
# numpy 2 moved the module; a set that was written again with a numpy of today names the same function this way.
_ALLOWED = {
    _RECONSTRUCT: _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    _NDARRAY: _NDARRAY,
    _DTYPE: _DTYPE,
}


def load_pairs(source: Source, names: Sequence[str]) -> list[tuple[Array, Array]]:
    """Return the pickle's pairs of arrays, one for each name; the names serve the messages.

    Raises InvalidDataset for anything that is no pickle, is damaged, names anything but numpy arrays, uses an
    instruction that arrays do not need, or nests its arrays in another way.
    """
    value = _Machine(source).run()
    source.finish()
    if not (isinstance(value, tuple) and len(value) == len(names)):
        raise InvalidDataset(f"{_EXPECTED}, but it holds {_describe(value)}.")
    return [_pair(part, name) for part, name in zip(value, names, strict=True)]


@dataclass(frozen=True)
class _Name:
    """A global that the pickle names, not the thing itself."""

    path: tuple[str, str]


@dataclass
class _Type:
    """A numpy dtype as the pickle states it: ``f4`` and the like, and its byte order."""

    spec: str
    order: str | None = None


@dataclass
class _Contents:
    """A numpy array as the pickle states it; ``shape`` is None until its BUILD instruction came."""

    shape: tuple[int, ...] | None = None
    type: _Type | None = None
    column_major: bool = False
    data: bytes | bytearray = b""


class _Machine:
    """Runs the instructions of one pickle on a stack of inert values."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Run up to STOP and return the value on top of the stack."""
        self._begin()
        for _ in range(MAX_INSTRUCTIONS):
            code = self._source.read(1)[0]
            if code == _STOP:
                return self._pop()
            instruction = _INSTRUCTIONS.get(code)
            if instruction is None:
                raise InvalidDataset(_refusal(code))
            instruction(self)
        raise InvalidDataset(f"The pickle has more than {MAX_INSTRUCTIONS:,} instructions; arrays need far fewer.")

    def _begin(self) -> None:
        start = bytes(self._source.read(2))
        if start[0] != _PROTO or not 2 <= start[1] <= 5:
            raise InvalidDataset(
                f"The data set is not a pickle of protocol 2 to 5: it begins with {start!r}"
                + (", inside gzip." if self._source.zipped else ".")
            )

    # --- the stack

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        floor = self._marks[-1] if self._marks else 0
        if len(self._stack) <= floor:
            raise InvalidDataset("The pickle is damaged: it takes a value that it never made.")
        return self._stack.pop()

    def _mark(self) -> None:
        self._marks.append(len(self._stack))

    def _pop_mark(self) -> list[Any]:
        if not self._marks:
            raise InvalidDataset("The pickle is damaged: it closes a tuple that it never opened.")
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _tuple(self, size: int) -> None:
        self._push(tuple(reversed([self._pop() for _ in range(size)])))

    # --- arguments in the stream

    def _number(self, form: str) -> int:
        return int(struct.unpack(form, self._source.read(struct.calcsize(form)))[0])

    def _push_bytes(self, form: str) -> None:
        self._push(self._source.read(self._size(form)))

    def _push_text(self, form: str) -> None:
        try:
            self._push(self._source.read(self._size(form)).decode("utf-8"))
        except UnicodeDecodeError:
            raise InvalidDataset("The pickle is damaged: a text in it is not UTF-8.") from None

    def _size(self, form: str) -> int:
        size = self._number(form)
        if size < 0:
            raise InvalidDataset("The pickle is damaged: a length in it is negative.")
        return size

    def _push_long(self) -> None:
        self._push(int.from_bytes(self._source.read(self._number("<B")), "little", signed=True))

    def _skip(self, size: int) -> None:
        self._source.read(size)

    # --- memo

    def _put(self, form: str | None) -> None:
        key = len(self._memo) if form is None else self._number(form)
        value = self._pop()
        self._push(value)
        self._memo[key] = value

    def _get(self, form: str) -> None:
        key = self._number(form)
        if key not in self._memo:
            raise InvalidDataset("The pickle is damaged: it recalls a value that it never stored.")
        self._push(self._memo[key])

    # --- names, calls and state

    def _global(self) -> None:
        self._name(self._source.line(), self._source.line())

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        self._name(module, name)

    def _name(self, module: Any, name: Any) -> None:
        path = (_text(module), _text(name))
        if path not in _ALLOWED:
            raise InvalidDataset(
                f"The pickle names {_quoted('.'.join(path))}; only plain numpy arrays are allowed, and nothing of it "
                "was run." + _advice(path)
            )
        self._push(_Name(_ALLOWED[path]))

    def _call(self) -> None:
        arguments, callee = self._pop(), self._pop()
        path = callee.path if isinstance(callee, _Name) else None
        if path == _RECONSTRUCT and _is_empty_array(arguments):
            self._push(_Contents())
        elif path == _DTYPE and isinstance(arguments, tuple) and arguments:
            self._push(_Type(_scalar_type(arguments[0])))
        else:
            raise InvalidDataset("The pickle makes a call that no plain numpy array needs; nothing of it was run.")

    def _build(self) -> None:
        state, target = self._pop(), self._pop()
        if isinstance(target, _Contents) and target.shape is None:
            _set_contents(target, state)
        elif isinstance(target, _Type) and target.order is None:
            target.order = _byte_order(state)
        else:
            raise InvalidDataset("The pickle gives a state to something that is no fresh numpy array.")
        self._push(target)


_PROTO, _STOP = 0x80, ord(".")
_Instruction = Callable[[_Machine], None]


def _take(form: str) -> _Instruction:
    return lambda machine: machine._push(machine._number(form))


def _constant(value: object) -> _Instruction:
    return lambda machine: machine._push(value)


# Names and codes: https://github.com/python/cpython/blob/main/Lib/pickletools.py
_INSTRUCTIONS: dict[int, _Instruction] = {
    ord("N"): _constant(None),
    0x88: _constant(True),
    0x89: _constant(False),
    ord("J"): _take("<i"),
    ord("K"): _take("<B"),
    ord("M"): _take("<H"),
    0x8A: _Machine._push_long,
    ord("U"): partial(_Machine._push_bytes, form="<B"),
    ord("T"): partial(_Machine._push_bytes, form="<i"),
    ord("C"): partial(_Machine._push_bytes, form="<B"),
    ord("B"): partial(_Machine._push_bytes, form="<I"),
    0x8E: partial(_Machine._push_bytes, form="<Q"),
    0x8C: partial(_Machine._push_text, form="<B"),
    ord("X"): partial(_Machine._push_text, form="<I"),
    ord("("): _Machine._mark,
    ord("t"): lambda machine: machine._push(tuple(machine._pop_mark())),
    ord(")"): _constant(()),
    0x85: partial(_Machine._tuple, size=1),
    0x86: partial(_Machine._tuple, size=2),
    0x87: partial(_Machine._tuple, size=3),
    ord("q"): partial(_Machine._put, form="<B"),
    ord("r"): partial(_Machine._put, form="<I"),
    0x94: partial(_Machine._put, form=None),
    ord("h"): partial(_Machine._get, form="<B"),
    ord("j"): partial(_Machine._get, form="<I"),
    # A frame only says how much to read at once; its content is read like any other.
    0x95: partial(_Machine._skip, size=8),
    ord("c"): _Machine._global,
    0x93: _Machine._stack_global,
    ord("R"): _Machine._call,
    ord("b"): _Machine._build,
}


_EXPECTED = "The pickle should hold three pairs of numpy arrays, (images, labels) for train, valid and test, in tuples"


def _refusal(code: int) -> str:
    known = {op.code: op for op in pickletools.opcodes}.get(chr(code))
    if known is None:
        return f"The pickle is damaged: {code:#04x} is no instruction."
    return f"{_EXPECTED}, which need no {known.name}; nothing of it was run."


def _advice(path: tuple[str, str]) -> str:
    if path in (("_codecs", "encode"), ("numpy._core.numeric", "_frombuffer"), ("numpy.core.numeric", "_frombuffer")):
        return " Write the pickle with protocol 3 or 4."
    return ""


def _text(value: Any) -> str:
    if isinstance(value, bytes | bytearray):
        return value.decode("latin-1")
    if isinstance(value, str):
        return value
    raise InvalidDataset("The pickle is damaged: a name in it is no text.")


def _quoted(text: str) -> str:
    return repr(text[:60])


def _is_empty_array(arguments: Any) -> bool:
    """Whether these are the arguments with which numpy begins every array: its own class and no content."""
    return isinstance(arguments, tuple) and arguments[:2] == (_Name(_NDARRAY), (0,))


def _scalar_type(spec: Any) -> str:
    text = _text(spec)
    if text not in SCALAR_TYPES:
        raise InvalidDataset(f"The pickle holds an array of type {_quoted(text)}; only plain numbers are allowed.")
    return text


def _byte_order(state: Any) -> str:
    order = _text(state[1]) if isinstance(state, tuple) and len(state) >= 2 else ""
    if order not in ("<", ">", "|"):
        raise InvalidDataset("The pickle is damaged: an array's byte order is unknown.")
    if any(part is not None for part in state[2:5]):
        raise InvalidDataset("The pickle holds a structured array; only plain numbers are allowed.")
    return order


def _set_contents(target: _Contents, state: Any) -> None:
    if not (isinstance(state, tuple) and len(state) == 5):
        raise InvalidDataset("The pickle is damaged: an array's state has not its five parts.")
    _, shape, kind, column_major, data = state
    if not (
        isinstance(shape, tuple)
        and len(shape) <= MAX_DIMENSIONS
        and all(type(size) is int and size >= 0 for size in shape)
    ):
        raise InvalidDataset("The pickle is damaged: an array's shape is no tuple of sizes.")
    if not (isinstance(kind, _Type) and isinstance(data, bytes | bytearray)):
        raise InvalidDataset("The pickle is damaged: an array has no plain type or no plain bytes.")
    target.shape, target.type, target.column_major, target.data = shape, kind, bool(column_major), data


def _pair(value: Any, name: str) -> tuple[Array, Array]:
    if not (isinstance(value, tuple) and len(value) == 2):
        raise InvalidDataset(f"{_EXPECTED}, but its {name} part holds {_describe(value)}.")
    images, labels = value
    return _array(images, f"{name} images"), _array(labels, f"{name} labels")


def _describe(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    if isinstance(value, _Contents):
        return "an array"
    return "nothing" if value is None else f"a value of type {type(value).__name__.lstrip('_').lower()}"


def _array(contents: Any, what: str) -> Array:
    if not isinstance(contents, _Contents) or contents.shape is None or contents.type is None:
        raise InvalidDataset(f"{_EXPECTED}, but in place of its {what} it holds {_describe(contents)}.")
    cells = math.prod(contents.shape)
    if cells == 0:
        raise InvalidDataset(f"The array of {what} is empty: its shape is {_shown(contents.shape)}.")
    kind = np.dtype((contents.type.order or "=").replace("|", "=") + contents.type.spec)
    if cells * kind.itemsize != len(contents.data):
        raise InvalidDataset(
            f"The pickle is damaged: its array of {what}, shape {_shown(contents.shape)} of {kind}, has "
            f"{len(contents.data):,} bytes of data."
        )
    flat = np.frombuffer(contents.data, kind)
    return flat.reshape(contents.shape, order="F" if contents.column_major else "C")


def _shown(shape: tuple[int, ...]) -> str:
    return "(" + ", ".join(str(size) if size < 2**63 else "huge" for size in shape) + ")"
