"""A value that a context variable has for the length of a block."""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Setting(Generic[Value]):
    """`variable` is `value` inside, also in tasks that are started there; the block is told it. Good for one block.

    A class, for every request passes several, and a generator takes twice as long.
    """

    __slots__ = ("_token", "_value", "_variable")
    _token: Token[Value]

    def __init__(self, variable: ContextVar[Value], value: Value) -> None:
        self._variable = variable
        self._value = value

    def __enter__(self) -> Value:
        self._token = self._variable.set(self._value)
        return self._value

    def __exit__(self, *_: object) -> None:
        self._variable.reset(self._token)
