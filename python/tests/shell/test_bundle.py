"""scripts/load.sh: verifies a bundle, sets up from its wheels alone, and names the rest in .env."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from .conftest import Sandbox

SETTINGS = ("MLPERF_CONTAINER=0", "MLPERF_MODEL=@BUNDLE@/model", "PIP_NO_INDEX=1")


@pytest.fixture
def box(sandbox: Sandbox) -> Sandbox:
    """A stub Python 3.11 that says its version; set-up is watched, not run."""
    sandbox.stub("python3.11")
    sandbox.on("python3.11 -c import sys; print", out="3.11\n")
    sandbox.stub("native.sh", folder=sandbox.root / "scripts")
    sandbox.stub("entrypoint.sh", folder=sandbox.root)
    return sandbox


@pytest.fixture
def bundle(box: Sandbox, tmp_path: Path) -> Path:
    """A finished bundle of this checkout."""
    folder = tmp_path / "the bundle"
    (folder / "wheels").mkdir(parents=True)
    (folder / "wheels/a.whl").write_text("a wheel")
    lines = ["build=cpu", "python=3.11", *(f"setting {setting}" for setting in SETTINGS)]
    (folder / "bundle.env").write_text("".join(f"{line}\n" for line in lines))
    locks = sorted((box.root / "locks").glob("*.lock"))
    (folder / "locks.sha256").write_text("".join(f"{sha256(p)}  locks/{p.name}\n" for p in locks))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = "".join(f"{sha256(path)}  ./{path.relative_to(folder)}\n" for path in files)
    (folder / "SHA256SUMS").write_text(sums)
    return folder


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_bundle_is_verified_set_up_and_named(box: Sandbox, bundle: Path) -> None:
    box.on("native.sh", env=True)
    (box.root / ".env").write_text("MLPERF_SAMPLES=8\n")
    for _ in range(2):
        done = box.run("scripts/load.sh", str(bundle))
        assert done.returncode == 0, done.stderr
        assert "verifying 3 files" in done.stderr
        assert '"MLPERF_TARGET": "cpu"' in done.stdout
        lines = (box.root / ".env").read_text().splitlines()
        assert lines == ["MLPERF_SAMPLES=8", SETTINGS[0], f"MLPERF_MODEL={bundle}/model", SETTINGS[2]]
    made = [call for call in box.calls() if not call.startswith("python3.11")]
    assert made == ["native.sh --dev", f"entrypoint.sh gather --target {bundle} --build cpu --settle"] * 2


def test_a_setting_of_the_user_stays(box: Sandbox, bundle: Path) -> None:
    (box.root / ".env").write_text("MLPERF_MODEL=/mine\n")
    done = box.run("scripts/load.sh", str(bundle))
    assert "sets MLPERF_MODEL already: it stays" in done.stderr
    assert (box.root / ".env").read_text().splitlines()[0] == "MLPERF_MODEL=/mine"


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ("wheel", 3, "./wheels/a.whl: FAILED"),
        ("gone", 3, "./wheels/a.whl: FAILED open or read"),
        ("unfinished", 2, "expected a folder that make bundle has finished"),
        ("lock", 2, "expected this checkout's lock files"),
        ("python", 3, "expected Python 3.11, which the bundle's wheels are for, found 3.12"),
    ],
)
def test_what_does_not_fit_sets_nothing_up(
    box: Sandbox, bundle: Path, change: str, code: int, says: str
) -> None:
    if change == "wheel":
        (bundle / "wheels/a.whl").write_text("another")
    elif change == "gone":
        (bundle / "wheels/a.whl").unlink()
    elif change == "unfinished":
        (bundle / "SHA256SUMS").unlink()
    elif change == "lock":
        with (box.root / "locks/cpu.lock").open("a") as lock:
            lock.write("# another\n")
    else:
        box.on("python3.11 -c import sys; print", out="3.12\n")
    done = box.run("scripts/load.sh", str(bundle))
    assert done.returncode == code and says in done.stderr
    assert "native.sh --dev" not in box.calls() and not (box.root / ".env").exists()


@pytest.mark.parametrize("target", ["bundle", "load"])
def test_make_wants_a_folder(box: Sandbox, target: str) -> None:
    done = box.run("make", target)
    assert done.returncode == 2 and "BUNDLE: expected a folder" in done.stderr
