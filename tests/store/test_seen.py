from __future__ import annotations

import random

from curator.store.seen import Seen


def test_it_says_what_a_set_would_say():
    chooser = random.Random(1)
    seen, reference = Seen(), set()
    for _ in range(60):
        ids = [str(chooser.randrange(3000)) for _ in range(chooser.randrange(120))]
        expected = []
        for name in ids:
            expected.append(name in reference)
            reference.add(name)
        assert seen.add(ids).tolist() == expected


def test_no_ids_are_fine():
    assert Seen().add([]).tolist() == []
