"""Policies as files: what is refused, and what the refusal says."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from recorded_world import world

from cascade.artifact import check, load, save, seal
from cascade.certify import Asked, CertifySettings, certify
from cascade.policy import Policy, TierRecord
from curator.errors import ConfigError, MissingExtraError
from curator.types import Price

NOW = datetime(2030, 1, 1, tzinfo=UTC)
TIERS = {"t0": "http:small", "t1": "http:large@r2"}


@pytest.fixture
def policy() -> Policy:
    made = certify(world(400), Asked("topic", "f1"), CertifySettings(alpha=0.1))
    tiers = tuple(TierRecord.of(name, who, Price(0.1, 0.2)) for name, who in TIERS.items())
    return Policy(created=NOW, expires=NOW + timedelta(days=90), tiers=tiers, questions=(made,))


def write_keys(folder: Path, name: str = "key") -> tuple[Path, Path]:
    key = Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def edit(path: Path, change: Callable[[dict], object]) -> None:
    content = orjson.loads(path.read_bytes())
    change(content)
    path.write_bytes(orjson.dumps(content))


def test_what_is_saved_is_loaded(policy: Policy, tmp_path: Path) -> None:
    sealed = seal(policy)
    save(sealed, tmp_path / "policy.json")
    assert load(tmp_path / "policy.json", now=NOW) == sealed
    assert [path.name for path in tmp_path.iterdir()] == ["policy.json"]


def test_the_layout_of_the_file_does_not_matter(policy: Policy, tmp_path: Path) -> None:
    save(seal(policy), tmp_path / "policy.json")
    edit(tmp_path / "policy.json", lambda content: content.update(currency=content.pop("currency")))
    assert load(tmp_path / "policy.json", now=NOW).questions == policy.questions


BEFORE_TOLERANCES = (
    b'{"version":1,"created":"2026-01-01T00:00:00Z","expires":null,"currency":"USD","tiers":[{"name":"a","identity":"x"'
    b',"price":null,"spec":""},{"name":"b","identity":"y","price":null,"spec":""}],"questions":[{"name":"n",'
    b'"fingerprint":"f","rules":[{"tier":"a","scorer":{"signals":["margin"],"weights":[1.0],"bias":0.0,"knots":[],'
    b'"values":[]},"threshold":0.5}],"certificate":{"basis":"vs_teacher","verdict":"PASS","reason":"r","alpha":0.1,'
    b'"delta":0.1,"rows":9,"risk":0.0,"bound":0.1,"shares":[0.7,0.3],"cost":null,"baseline_cost":null,"latency":null,'
    b'"baseline_latency":null,"notes":[]},"path":[]}],'
    b'"checksum":"sha256:479775beffeb68e75aad0fb642345d08f94418124c8133c8437ad845d2bac68b","signature":null}'
)
"""A policy as goldless wrote it when certificates had no tolerance."""


def test_a_policy_from_before_there_were_tolerances_still_holds(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    path.write_bytes(BEFORE_TOLERANCES)
    found = load(path)
    assert found.questions[0].certificate.tolerance == 0
    save(found, path)
    assert orjson.loads(path.read_bytes()) == orjson.loads(BEFORE_TOLERANCES)


def test_a_tolerance_is_kept_and_belongs_to_the_checksum(policy: Policy, tmp_path: Path) -> None:
    path, (question,) = tmp_path / "policy.json", policy.questions
    certificate = question.certificate.model_copy(update={"tolerance": 1})
    changed = policy.model_copy(update={"questions": (question.model_copy(update={"certificate": certificate}),)})
    save(seal(changed), path)
    assert load(path, now=NOW).questions[0].certificate.tolerance == 1
    edit(path, lambda content: content["questions"][0]["certificate"].update(tolerance=2))
    with pytest.raises(ConfigError, match="its checksum is wrong"):
        load(path, now=NOW)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["questions"][0]["rules"][0].update(threshold=0.01),
        lambda content: content["questions"][0]["certificate"].update(alpha=0.5),
        lambda content: content["tiers"][1].update(identity="http:other"),
        lambda content: content.update(expires=None),
        lambda content: content.update(checksum=""),
    ],
    ids=["threshold", "alpha", "identity", "expiry", "checksum"],
)
def test_a_policy_that_was_changed_is_refused(policy: Policy, tmp_path: Path, change: Callable[[dict], object]) -> None:
    save(seal(policy), tmp_path / "policy.json")
    edit(tmp_path / "policy.json", change)
    with pytest.raises(ConfigError, match="was changed after it was made: its checksum is wrong"):
        load(tmp_path / "policy.json", now=NOW)


def test_expired_and_newer_policies_are_refused(policy: Policy, tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    save(seal(policy), path)
    with pytest.raises(ConfigError, match=r"expired on 2030-04-01 \(traffic changes; certify again"):
        load(path, now=NOW + timedelta(days=90))
    edit(path, lambda content: content.update(version=2, novelty=True))
    with pytest.raises(ConfigError, match=r"version 2 of the format, this goldless knows 1 \(pip install -U goldless"):
        load(path, now=NOW)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"[]", "is no policy"), (b"{", "is no policy"), (b'{"version": 1}', "created: Field required")],
)
def test_files_that_are_no_policy(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "policy.json").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load(tmp_path / "policy.json")
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "absent.json")


def test_a_signature_is_of_its_key_and_its_content(policy: Policy, tmp_path: Path) -> None:
    path, (private, public), (_, stranger) = tmp_path / "p.json", write_keys(tmp_path), write_keys(tmp_path, "other")
    save(seal(policy, private), path)
    assert load(path, key=public, now=NOW).questions == policy.questions
    with pytest.raises(ConfigError, match=r"was not signed by the owner of .*other\.pub"):
        load(path, key=stranger, now=NOW)
    signature = orjson.loads(path.read_bytes())["signature"]
    forged = seal(policy.model_copy(update={"expires": None})).model_copy(update={"signature": signature})
    save(forged, path)
    with pytest.raises(ConfigError, match="was not signed by the owner"):
        load(path, key=public, now=NOW)
    save(seal(policy), path)
    with pytest.raises(ConfigError, match="is not signed"):
        load(path, key=public, now=NOW)


def test_keys_that_are_none(policy: Policy, tmp_path: Path) -> None:
    private, public = write_keys(tmp_path)
    with pytest.raises(ConfigError, match=r"holds no private key.*openssl genpkey"):
        seal(policy, public)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        seal(policy, tmp_path / "absent.pem")
    path = tmp_path / "p.json"
    save(seal(policy, private), path)
    with pytest.raises(ConfigError, match="holds no public key"):
        load(path, key=private, now=NOW)
    other = ec.generate_private_key(ec.SECP256R1())
    private.write_bytes(
        other.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    with pytest.raises(ConfigError, match="is no Ed25519 key"):
        seal(policy, private)


def test_without_the_library_the_extra_is_named(
    policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private, _ = write_keys(tmp_path)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.serialization", None)
    with pytest.raises(MissingExtraError, match=r"goldless\[sign\]"):
        seal(policy, private)


def test_only_a_sealed_policy_is_saved_where_it_can_be(policy: Policy, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="never was"):
        save(policy, tmp_path / "policy.json")
    with pytest.raises(ConfigError, match="cannot be written"):
        save(seal(policy), tmp_path / "absent" / "policy.json")


def test_a_policy_fits_its_models_and_questions_only(policy: Policy) -> None:
    check(policy, TIERS, {"topic": "f1"})
    for tiers, questions, message in (
        ({**TIERS, "t1": "http:large@r3"}, {}, "tier t1 is http:large@r3, the policy is for http:large@r2"),
        (dict(reversed(TIERS.items())), {}, "for the tiers t0, t1, these are t1, t0"),
        (TIERS, {"topic": "f2"}, "'topic' is not asked as it was certified"),
        (TIERS, {"tone": "f1"}, "has no question 'tone'"),
    ):
        with pytest.raises(ConfigError, match=message):
            check(policy, tiers, questions)
