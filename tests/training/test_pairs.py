"""curator/training/pairs.py: the tokens that an engine would see, split by document."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from dataclasses import replace

from pair_builders import TASK, pair, pair_set

from curator.engines.torch_model import load_prompter
from curator.errors import InputError
from curator.training.examples import Split
from curator.training.pairs import build_pairs

ANY = Split(0.25, 0, 512)


@pytest.fixture(scope="module")
def prompter(tiny_model):
    return load_prompter(tiny_model, None)


def test_a_pair_is_the_engines_prompt_and_two_answers_that_end(prompter):
    given = [pair(number) for number in range(8)]
    found = build_pairs(given, prompter, ANY)
    one = next(item for item in (*found.train, *found.validation) if item.document_id == "d3")
    assert one.prompt == prompter.messages(TASK.generate_request(given[3].document).messages, 1)
    assert prompter.decode(one.chosen) == "it is 7.\nAnswer: 7"
    assert prompter.decode(one.rejected) == "It is 3.\nAnswer: 3"
    assert one.chosen[-1] == one.rejected[-1] == prompter.end
    assert one.tokens == 2 * len(one.prompt) + len(one.chosen) + len(one.rejected)


def test_all_pairs_of_a_document_lie_on_one_side(prompter, tmp_path):
    pairs = pair_set(tmp_path / "s.duckdb", 12, each=3).pairs()
    found = build_pairs(pairs, prompter, ANY)
    train, held = ({item.document_id for item in side} for side in (found.train, found.validation))
    assert (len(train), len(held)) == (9, 3)
    assert not train & held
    assert (len(found.train), len(found.validation)) == (27, 9)


def test_long_pairs_are_left_out_and_counted(prompter):
    given = [replace(pair(number), rejected="No. " * (300 if number == 5 else 1)) for number in range(8)]
    assert build_pairs(given, prompter, ANY).too_long == 1
    with pytest.raises(InputError, match="8 pairs have more than 10 tokens"):
        build_pairs(given, prompter, replace(ANY, max_length=10))
