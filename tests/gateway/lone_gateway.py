"""A gateway with scripted tiers in a process of its own. Prints its address, and serves until its input ends.

python tests/gateway/lone_gateway.py FOLDER
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from gateway_builders import running


async def main(folder: Path) -> None:
    async with running(folder) as server:
        print(server.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


asyncio.run(main(Path(sys.argv[1])))
