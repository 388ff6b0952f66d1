"""An event loop whose clock jumps to the next timer as soon as nothing else is left to do.

    @pytest.fixture
    def anyio_backend():
        return VIRTUAL

Sleeps and timeouts take no time and come in their exact order. For code without sockets: a timer would come before
what the network has on its way.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Mapping


class _Jumping(selectors.DefaultSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            return super().select(None)
        found = super().select(0)
        if not found:
            self.now += max(timeout, 0.0)
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


VIRTUAL: tuple[str, Mapping[str, object]] = ("asyncio", {"loop_factory": VirtualLoop})


def now() -> float:
    """The running loop's time; a clock to pass on."""
    return asyncio.get_running_loop().time()
