"""The demo's server in a process of its own (a tracer provider can be set once). Prints what it did as JSON.

python tests/cli/served_demo.py FOLDER [mute]
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from route_builders import MOOD, policy, row

from cascade.artifact import save, seal
from cascade.policy import TierRecord
from cli.demo_serving import demonstrate
from curator.engines.base import EngineIdentity
from curator.engines.scripted import ScriptedEngine


async def main(folder: Path, mute: bool) -> None:
    small = ScriptedEngine(
        lambda request: [0.6, 0.4] if "hard" in request.state else [0.9, 0.1],
        identity=EngineIdentity("scripted", "small"),
    )
    strong = ScriptedEngine(
        lambda _: "bad", None if mute else lambda _: "it says\nmuch", identity=EngineIdentity("scripted", "strong")
    )
    tiers = {"small": small, "strong": strong}
    found = policy(tiers, row("", MOOD), {"mood": [0.8]})
    records = tuple(TierRecord(name=one.name, identity=one.identity, price=(1.0, 2.0)) for one in found.tiers)
    path = folder / "policy.json"
    save(seal(found.model_copy(update={"tiers": records})), path)
    requests = [row("hard" if number == 3 else f"fine {number}", MOOD) for number in range(60)]
    made = await demonstrate(folder, path, tiers, requests)
    print(json.dumps({**made.to_json(), "rows": made.rows, "said": made.said, "address": made.address}))


asyncio.run(main(Path(sys.argv[1]), "mute" in sys.argv))
