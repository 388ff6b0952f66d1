"""`goldless w2s`, end to end with a tiny encoder: teachers, gold that changes nothing, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from benchmarks.mock_server import MockServer
from curator.engines import connect
from curator.store import Store
from tests.cli.conftest import Project, Serve

pytest.importorskip("torch")

FAST = ("--seeds", "2")


@pytest.fixture
def curated(tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Two hundred labelled documents."""
    monkeypatch.setenv("GOLDLESS_CACHE", str(tmp_path / "cache"))
    server = serve(MockServer())
    texts = [f"{'a good great' if i % 2 else 'a bad poor'} film {i}" for i in range(200)]
    made = Project(tmp_path, server.url, texts)
    made.write()
    made.ok("curate")
    return made


def written(project: Project, name: str, value: Callable[[int], str], **more: Callable[[int], object]) -> str:
    """A file with a value per document."""
    rows = [{"id": f"d{i}", "label": value(i), **{key: of(i) for key, of in more.items()}} for i in range(200)]
    path = project.folder / name
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return str(path)


def right(i: int) -> str:
    return "positive" if i % 2 else "negative"


def wrong_in(share: int) -> Callable[[int], str]:
    """Every so many rows are wrong, whatever they say."""
    return lambda i: right(i + (i // 2 % share == 0))


def test_without_gold_there_are_misfit_agreement_and_a_choice_but_no_accuracy(
    curated: Project, tiny_encoder: Path
) -> None:
    files = [written(curated, f"{name}.jsonl", wrong_in(share)) for name, share in (("good", 8), ("poor", 3))]
    given = ("--student", str(tiny_encoder), "--teacher", f"good={files[0]}", "--teacher", f"poor={files[1]}", *FAST)
    (found,) = curated.json("w2s", *given)
    assert found["gold"] is None
    assert {one["teacher"] for one in found["teachers"]} == {"good", "poor"}
    assert found["chosen"] in {"good", "poor"}
    assert [one["arm"] for one in found["arms"]] == ["naive", "filtered", "random"]
    assert found["arms"][1]["rows"] == found["arms"][2]["rows"] < found["arms"][0]["rows"]
    shown = curated.ok("w2s", *given).stdout
    assert "accuracy" not in shown
    assert "Who is right where they differ only gold can tell" in shown
    assert "which nobody vouches for" in shown


def test_gold_grades_the_students_and_changes_none_of_them(curated: Project, tiny_encoder: Path) -> None:
    teacher = written(curated, "weak.jsonl", wrong_in(3))
    given = ("--student", str(tiny_encoder), "--teacher", f"weak={teacher}", "--loss", "xent", "--loss", "gce", *FAST)
    (blind,) = curated.json("w2s", *given)
    found = {}
    for name, value in (("right", right), ("flipped", lambda i: right(i + 1))):
        gold = written(curated, f"{name}.gold.jsonl", value)
        (found[name],) = curated.json("w2s", *given, "--gold", gold)
        # Everything that was trained is the same to the last digit.
        assert (found[name]["arms"], found[name]["teachers"]) == (blind["arms"], blind["teachers"])
    graded = {(one["arm"], one["loss"]): one for one in found["right"]["gold"]["arms"]}
    assert set(graded) >= {("weak", ""), ("naive", "xent"), ("filtered", "gce"), ("random", "gce"), ("ceiling", "xent")}
    assert graded["weak", ""]["accuracy"]["value"] == pytest.approx(2 / 3, abs=0.1)
    assert graded["naive", "xent"]["gain"]["low"] > 0
    assert graded["naive", "xent"]["recovery"]["value"]["value"] > 0.5
    flipped = {(one["arm"], one["loss"]): one for one in found["flipped"]["gold"]["arms"]}
    assert flipped["naive", "xent"]["accuracy"]["value"] < 0.3


def test_a_report_is_written_and_never_over_its_inputs(curated: Project, tiny_encoder: Path) -> None:
    gold, page = written(curated, "gold.jsonl", right), curated.folder / "w2s.md"
    given = ("--student", str(tiny_encoder), "--teacher", f"weak={written(curated, 'weak.jsonl', wrong_in(3))}", *FAST)
    curated.ok("w2s", *given, "--gold", gold, "--out", str(page), "--select", "disagreement", "--weighted")
    text = page.read_text()
    assert "| ceiling | xent |" in text
    assert "PGR of `naive`" in text
    refused = curated.run("w2s", *given, "--gold", gold, "--out", gold)
    assert refused.exit_code == 2
    assert "is a file that is read" in refused.stderr


def test_rows_are_selected_by_a_small_language_model(curated: Project, tiny_encoder: Path, tiny_model: Path) -> None:
    teacher = written(curated, "weak.jsonl", wrong_in(4))
    given = ("--student", str(tiny_encoder), "--scorer", str(tiny_model), "--teacher", f"weak={teacher}", *FAST)
    (found,) = curated.json("w2s", *given, "--select", "perplexity", "--share", "0.4")
    assert found["score"] == "perplexity"
    assert found["arms"][1]["rows"] == pytest.approx(0.4 * found["arms"][0]["rows"], abs=2)
    # A random model finds nearly every answer less likely after its text: none of those is worth learning.
    refused = curated.run("w2s", *given, "--select", "difficulty", "--share", "0.05")
    assert refused.exit_code == 2
    assert "selecting by difficulty leaves" in refused.stderr
    assert "keep a larger share" in refused.stderr


def test_labels_versions_and_engines_of_the_store_are_teachers(curated: Project, tiny_encoder: Path) -> None:
    spec = f"{curated.url}#mock?dialect=chat"
    named = [f"--teacher={name}={what}" for name, what in (("all", "labels"), ("v", "v1"), ("asked", spec))]
    (found,) = curated.json("w2s", "--student", str(tiny_encoder), *named, *FAST)
    rows = {one["teacher"]: one["rows"] for one in found["teachers"]}
    assert rows["all"] == rows["v"] == rows["asked"] == found["rows"]["held_out"]
    # A teacher that was trained on the version has seen all of its rows.
    saw = curated.run("w2s", "--student", str(tiny_encoder), *named, "--saw", "all=latest")
    assert saw.exit_code == 2
    assert "all labels no row that it was not trained on itself" in saw.stderr


def test_a_causal_student_reads_the_whole_prompt(curated: Project, tiny_model: Path) -> None:
    teacher = written(curated, "weak.jsonl", wrong_in(4))
    (found,) = curated.json("w2s", "--student", str(tiny_model), "--teacher", f"weak={teacher}", *FAST)
    assert found["arms"][0]["rows"] > 100


@pytest.mark.parametrize("value", [lambda _: "positive", lambda i: "positive" if i < 190 else "negative"])
def test_labels_with_one_class_left(curated: Project, tiny_encoder: Path, value: Callable[[int], str]) -> None:
    teacher = written(curated, "weak.jsonl", value)
    done = curated.run("w2s", "--student", str(tiny_encoder), "--teacher", f"weak={teacher}", "--limit", "190", *FAST)
    assert done.exit_code == 2
    assert "the naive arm: every row is labelled 'positive': there is nothing to tell apart" in done.stderr
    assert "Traceback" not in done.stderr


def test_students_go_on_with_a_few_gold_rows(curated: Project, tiny_encoder: Path) -> None:
    weak, gold = written(curated, "weak.jsonl", wrong_in(2)), written(curated, "gold.jsonl", right)
    few = curated.folder / "few.jsonl"
    few.write_text("".join(f'{{"id": "d{i}", "label": "{right(i)}"}}\n' for i in range(40)))
    folder = curated.folder / "kept"
    given = ("--student", str(tiny_encoder), "--teacher", f"weak={weak}", *FAST, "--few", str(few))
    (found,) = curated.json("w2s", *given, "--gold", gold, "--save", f"few={folder}")
    grades = {one["arm"]: one for one in found["gold"]["arms"]}
    budgets = [f"{arm} ({count})" for count in (10, 40) for arm in ("gold only", "weak then gold")]
    assert set(budgets) <= grades.keys()
    assert [grades[arm]["rows"] for arm in budgets] == [10, 10, 40, 40]
    assert grades["weak then gold (40)"]["accuracy"]["value"] > grades["naive"]["accuracy"]["value"]
    # None of the forty is tested on, wherever its hash lies.
    assert found["rows"]["train"] > 140
    assert connect(f"head:{folder}").capabilities == {"decide"}


def test_one_gold_row_alone_teaches_nothing_and_the_report_says_so(curated: Project, tiny_encoder: Path) -> None:
    few = curated.folder / "few.jsonl"
    few.write_text('{"id": "d1", "label": "positive"}\n')
    weak = written(curated, "weak.jsonl", wrong_in(4))
    given = ("--student", str(tiny_encoder), "--teacher", f"weak={weak}", *FAST, "--few", str(few))
    (found,) = curated.json("w2s", *given)
    assert [one["arm"] for one in found["arms"]][3:] == ["weak then gold (1)"]
    assert any("1 gold rows alone teach nothing" in sentence for sentence in found["findings"])


def test_what_is_refused_says_the_way_out(curated: Project, tiny_encoder: Path) -> None:
    student = ("--student", str(tiny_encoder))
    stranger = curated.folder / "stranger.jsonl"
    stranger.write_text('{"id": "elsewhere", "label": "positive"}\n')
    odd = curated.folder / "odd.jsonl"
    odd.write_text('{"id": "d1", "label": "wonderful"}\n')
    weak = f"weak={written(curated, 'weak.jsonl', wrong_in(4))}"
    for arguments, message in (
        (("--limit", "5"), "3 rows to train on and 2 to test on are too few"),
        (("--teacher", weak, *FAST, "--gold", str(stranger)), "have no id in common"),
        (("--teacher", weak, *FAST, "--gold", str(odd)), "row 1: 'wonderful' is no option of label"),
        (("--teacher", f"them={stranger}"), "no document has a label of these teachers"),
        (("--teacher", "labels"), "is no NAME=VALUE"),
        (("--teacher", "a=labels", "--teacher", "a=v1"), "names 'a' twice"),
        (("--teacher", "a=v9"), "there is no dataset version 9"),
        (("--teacher", "a=http://localhost:9/v1#other"), "has answered nothing of this task"),
        (("--saw", "b=v1"), "--saw names 'b', which is none of labels"),
        (("--save", "best=x"), "which is none of naive, filtered, random, few"),
        (("--save", "few=x"), "--save few=FOLDER without --few"),
        (("--teacher", weak, *FAST, "--few", str(stranger)), "no row of"),
        (("--share", "0"), "share of rows to keep is 0"),
        (("--held", "1"), "share of rows held out is 1"),
        (("--weighted", "--balance"), "classes cannot be balanced"),
        (("--estimate", "consensus", "--teacher", weak, *FAST), "1 teachers have no consensus"),
        (("--field", "tone"), "no closed field 'tone'"),
    ):
        done = curated.run("w2s", *student, *arguments)
        assert done.exit_code == 2, (arguments, done.stdout, done.stderr)
        assert message in done.stderr.replace("\n", " "), (arguments, done.stderr)
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("causal", [False, True])
def test_a_student_is_kept_as_an_engine(curated: Project, tiny_encoder: Path, tiny_model: Path, causal: bool) -> None:
    folder, base = curated.folder / "kept", tiny_model if causal else tiny_encoder
    teacher = written(curated, "weak.jsonl", wrong_in(4))
    given = ("--student", str(base), "--teacher", f"weak={teacher}", "--seeds", "1", "--loss", "reverse_kl")
    done = curated.ok("w2s", *given, "--save", f"filtered={folder}")
    assert f"the filtered student is head:{folder}" in done.stderr.replace("\n", "")
    text = curated.settings.read_text()
    curated.settings.write_text(text.replace(f'spec = "{curated.url}#mock?dialect=chat"', f'spec = "head:{folder}"'))
    (report,) = curated.json("curate")
    assert report["annotation"]["sent"] == 200
    labels = {row["document_id"]: row["value"] for row in curated.json("show", "labels", "--limit", "0")}
    assert len(labels) == 200
    if not causal:  # the tiny language model has not learnt to tell the texts apart
        assert sum(labels[f"d{i}"] == right(i) for i in range(200)) > 180


@pytest.mark.engine
def test_a_head_that_was_trained_here_teaches_only_what_it_has_not_seen(curated: Project, tiny_encoder: Path) -> None:
    folder = curated.folder / "tone"
    curated.ok("train", "--method", "head", "--base", str(tiny_encoder), "--out", str(folder))
    (record,) = Store(curated.folder / "goldless.duckdb").models()
    text = curated.settings.read_text()
    curated.settings.write_text(text.replace(f'spec = "{curated.url}#mock?dialect=chat"', f'spec = "head:{folder}"'))
    curated.ok("curate")
    assert record.dataset_version == 1
    done = curated.run("w2s", "--student", str(tiny_encoder), "--teacher", f"tone=head:{folder}")
    assert "tone labels no row that it was not trained on itself" in done.stderr
    done = curated.run("w2s", "--student", str(tiny_encoder))
    assert "labels labels no row that it was not trained on itself" in done.stderr
