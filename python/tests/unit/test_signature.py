"""A signed run folder: what verifies, what does not, and whose word counts. With throw-away keys."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import run_folders as folders
from submission_trees import packed

from mlperf_llama import config, verdict
from mlperf_llama.bench import stages
from mlperf_llama.errors import BrokeError, MissingError
from mlperf_llama.records import seal, signature
from mlperf_llama.records.run_folder import RunFolder
from mlperf_llama.records.schema import Check, Seal
from mlperf_llama.submission import checker

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed here"),
]
PACKAGE = Path(__file__).parents[2]


def make_key(folder: Path, name: str) -> Path:
    path = folder / name
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two keys, and the file that allows the first."""
    folder = tmp_path_factory.mktemp("keys")
    ours = make_key(folder, "ours")
    make_key(folder, "theirs")
    public = ours.with_suffix(".pub").read_text().split()
    (folder / "allowed").write_text(
        f'lab@example.org namespaces="{signature.NAMESPACE}" {" ".join(public[:2])}\n'
    )
    return folder


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLPERF_ENV_FILE", os.devnull)
    for name in ("MLPERF_SIGN_KEY", "MLPERF_ALLOWED_SIGNERS"):
        monkeypatch.delenv(name, raising=False)


def check(run: RunFolder) -> Check | None:
    return next((c for c in verdict.examine(run) if c.name == "signature"), None)


def allow(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setenv("MLPERF_ALLOWED_SIGNERS", str(path))


def test_nobody_signs_and_nobody_asks(run: RunFolder) -> None:
    assert check(run) is None


def test_some_key_proves_that_nothing_changed_since(run: RunFolder, keys: Path) -> None:
    signature.sign(run, keys / "theirs")
    signed = check(run)
    assert signed and signed.passed and "signed with ED25519 key SHA256:" in signed.detail
    assert "whose key that is, ALLOWED_SIGNERS would tell" in signed.detail
    assert seal.faults(run) == []


def test_an_allowed_signer_is_named(run: RunFolder, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allow(monkeypatch, keys / "allowed")
    signature.sign(run, keys / "ours")
    signed = check(run)
    assert signed and signed.passed and signed.detail.startswith("signed by lab@example.org")


def test_a_signature_of_somebody_else_does_not_count(
    run: RunFolder, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(monkeypatch, keys / "allowed")
    signature.sign(run, keys / "theirs")
    signed = check(run)
    assert signed and not signed.passed


def test_one_is_missing_where_it_is_asked_for(
    run: RunFolder, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allow(monkeypatch, keys / "allowed")
    signed = check(run)
    assert signed and not signed.passed and signed.detail.startswith("not signed")
    assert "make sign" in signed.fix


@pytest.mark.parametrize("named", [True, False])
def test_a_seal_made_again_has_no_valid_signature(
    run: RunFolder, keys: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    """Who rewrites the folder with this code can make the seal whole, and not the signature."""
    if named:
        allow(monkeypatch, keys / "allowed")
    signature.sign(run, keys / "ours")
    kept = run.file(signature.SSH).read_bytes()
    folders.edit_json(run.file("system.json"), lambda data: data["memory"].update(total_gib=1.0))
    folders.reseal(run)
    run.file(signature.SSH).write_bytes(kept)
    assert seal.faults(run) == []
    signed = check(run)
    assert signed and not signed.passed and "the signature is not of this hashes.json" in signed.detail


@pytest.mark.parametrize(
    "content", [b"", b"-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n", b"\0"]
)
def test_a_broken_signature_fails(run: RunFolder, content: bytes) -> None:
    run.file(signature.SSH).write_bytes(content)
    signed = check(run)
    assert signed and not signed.passed


def test_a_signature_for_another_purpose_does_not_count(run: RunFolder, keys: Path) -> None:
    """A maker of signatures over anything else (git, mail) has not signed a run."""
    command = [
        "ssh-keygen",
        "-Y",
        "sign",
        "-q",
        "-n",
        "git",
        "-f",
        str(keys / "ours"),
        str(run.file(Seal.FILE)),
    ]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    signed = check(run)
    assert signed and not signed.passed


def test_the_next_stage_takes_the_signature_away(run: RunFolder, keys: Path) -> None:
    signature.sign(run, keys / "ours")
    with seal.stage(run, "score again"):
        pass
    assert not run.file(signature.SSH).exists() and check(run) is None


def test_without_the_program_nothing_is_claimed(
    run: RunFolder, keys: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    signature.sign(run, keys / "ours")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check(run) is None
    allow(monkeypatch, keys / "allowed")
    signed = check(run)
    assert signed and not signed.passed and "ssh-keygen is not installed here" in signed.detail


def test_no_key_and_no_private_key(run: RunFolder, keys: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="SIGN_KEY: expected a key's file, found"):
        signature.sign(run, tmp_path / "none")
    with pytest.raises(BrokeError, match="ssh-keygen"):
        signature.sign(run, keys / "allowed")
    assert not run.file(signature.SSH).exists()


def test_a_run_is_signed_where_it_is_asked_for_and_is_not_lost_by_it(
    run: RunFolder, keys: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert stages.sign_if_asked(run) == "" and not run.file(signature.SSH).exists()
    monkeypatch.setenv("MLPERF_SIGN_KEY", str(tmp_path / "none"))
    assert "expected a key's file" in (said := stages.sign_if_asked(run)) and "make sign RUN_DIR=" in said
    monkeypatch.setenv("MLPERF_SIGN_KEY", str(keys / "ours"))
    assert stages.sign_if_asked(run) == "" and run.file(signature.SSH).exists()


def command(*words: str, **settings: Path) -> subprocess.CompletedProcess[str]:
    """A verb, as it is shipped."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MLPERF_")}
    ours = {f"MLPERF_{name}": str(path) for name, path in settings.items()}
    return subprocess.run(
        [sys.executable, "-m", "mlperf_llama", *words],
        env={**clean, **ours, "PYTHONPATH": str(PACKAGE), "MLPERF_ENV_FILE": os.devnull},
        capture_output=True,
        text=True,
    )


def test_the_verb_signs_and_judges(run: RunFolder, keys: Path) -> None:
    ended = command("sign", "--run-dir", str(run.path), SIGN_KEY=keys / "ours")
    assert (ended.returncode, ended.stdout.strip()) == (0, str(run.file(signature.SSH))), ended.stderr
    checks = json.loads(run.file("verdict.json").read_text())["checks"]
    assert [c["passed"] for c in checks if c["name"] == "signature"] == [True]


def test_the_verb_signs_no_edited_folder(run: RunFolder, keys: Path) -> None:
    run.file("system.json").write_text("{}")
    ended = command("sign", "--run-dir", str(run.path), SIGN_KEY=keys / "ours")
    assert ended.returncode == 2 and "expected a seal that holds, found: system.json changed" in ended.stderr
    assert not run.file(signature.SSH).exists()
    assert command("sign", "--run-dir", str(run.path)).returncode == 2


def test_a_run_names_no_key_of_its_own(run: RunFolder, keys: Path) -> None:
    """config.json comes from somebody else: nothing is signed for it, and nobody's signers are believed."""
    folders.edit_json(run.file("config.json"), lambda data: data.update(sign_key=str(keys / "ours")))
    folders.reseal(run)
    assert command("verdict", "--run-dir", str(run.path)).returncode == 0
    assert not run.file(signature.SSH).exists()


@pytest.mark.parametrize("change", ["none", "tree", "folder"])
def test_check_verifies_the_folder_that_a_tree_was_packed_from(
    good: Path, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    shutil.copytree(good, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    signature.sign(run, keys / "ours")
    tree = packed(tmp_path, run)
    if change == "folder":
        run.file("system.json").write_text("{}")
    if change == "tree":
        allow(monkeypatch, keys / "allowed")
        run.file(signature.SSH).unlink()
    checks = {c.name: c.passed for c in checker.check(tree, config.load({}, {}), {}).ours}
    of_run = {name: passed for name, passed in checks.items() if name.startswith("record/run.")}
    expected = {"record/run.signature": change != "tree", "record/run.seal": change != "folder"}
    assert of_run == expected


@pytest.mark.skipif(shutil.which("minisign") is None, reason="minisign is not installed here")
def test_minisign_does_as_well(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ours", "theirs"):
        pair = ["-p", str(tmp_path / f"{name}.pub"), "-s", str(tmp_path / name)]
        subprocess.run(["minisign", "-G", "-W", *pair], check=True, capture_output=True)
    signature.sign(run, tmp_path / "ours")
    assert check(run) is None  # a minisign signature names no key: only a public key makes it count
    for name, good in (("ours", True), ("theirs", False)):
        allow(monkeypatch, tmp_path / f"{name}.pub")
        signed = check(run)
        assert signed and signed.passed is good
    allow(monkeypatch, tmp_path / "ours.pub")
    data = run.file(Seal.FILE)
    data.write_text(data.read_text() + " ")
    signed = check(run)
    assert signed and not signed.passed
