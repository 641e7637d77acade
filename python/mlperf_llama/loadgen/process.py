"""LoadGen's child process, seen from the engine's process: files, start, end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from ..errors import BrokeError, MissingError, UsageError
from ..machine.memory import memory_kills
from ..machine.processes import MODULE_COMMAND, PACKAGE_FOLDER, last_lines
from ..records.files import write_text
from . import child, logs
from .child import Spec
from .plan import Plan, audit_conf, user_conf


def write_spec(plan: Plan, out_dir: Path, conf_path: Path | None, loadgen_root: Path | None) -> Spec:
    """Check that the LoadGen release is here and write the files its process reads."""
    folder = (loadgen_root or Path(sys.prefix) / "loadgen") / plan.loadgen_version
    if not folder.is_dir():
        raise MissingError(
            f"LoadGen {plan.loadgen_version}: round {plan.round} needs it, expected it in {folder}, "
            "found nothing; run the set-up again"
        )
    conf = (conf_path or out_dir / "user.conf").absolute()
    # LoadGen takes an audit.config from the working directory unless it is given another path.
    audit = out_dir / "audit.config"
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        write_text(conf, user_conf(plan))
        if plan.mode == "compliance":
            write_text(audit, audit_conf(plan))
        else:
            audit.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(
            f"{out_dir}: expected a folder that can be written, found: {error.strerror}"
        ) from None
    return Spec(
        loadgen_dir=str(folder),
        user_conf=str(conf),
        audit_conf=str(audit),
        out_dir=str(out_dir),
        model=plan.loadgen_model,
        scenario=plan.loadgen_scenario,
        mode=plan.mode,
        sample_count=plan.sample_count,
    )


@dataclass
class Child:
    """The running process, our end of the socket pair, and what it prints."""

    process: subprocess.Popen[bytes]
    sock: socket.socket
    output: IO[bytes]
    # What memory_kills() gave before it started.
    memory_kills: int = field(default_factory=memory_kills)

    def broke(self, version: str, out_dir: Path) -> BrokeError:
        """Why it closed its end of the socket early. Blocks until it has ended."""
        try:
            code = self.process.wait(10)
            how = f"ended with code {code}"
            if code < 0:
                how = f"was ended by {signal.Signals(-code).name} (code {128 - code})"
            if code == -signal.SIGKILL and memory_kills() > self.memory_kills:
                how = "was ended by the kernel for want of memory"
        except subprocess.TimeoutExpired:
            how = "closed its socket"
        reason = "; ".join([*logs.last_errors(out_dir), *self.last_line()]) or "it gave no reason"
        return BrokeError(f"LoadGen {version} {how}: {reason}; its logs are in {out_dir}")

    def last_line(self) -> list[str]:
        """The last line it printed, if any."""
        return last_lines(self.output, 1)


@contextmanager
def started(spec: Spec) -> Iterator[Child]:
    """Start LoadGen's process; leaving the context ends it, whatever it is doing."""
    with tempfile.TemporaryFile() as output:
        own, remote = socket.socketpair()
        with own:
            with remote:
                number = str(remote.fileno())
                process = subprocess.Popen(
                    [*MODULE_COMMAND, child.__name__, number, spec.to_json()],
                    # No audit.config of the user's lies here.
                    cwd=PACKAGE_FOLDER,
                    # Nothing of the caller's is imported: LoadGen's release is the only other folder.
                    env={**os.environ, "PYTHONPATH": str(PACKAGE_FOLDER)},
                    pass_fds=[remote.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    # Ctrl-C at the terminal reaches our group only; we end the child ourselves.
                    start_new_session=True,
                )
            try:
                yield Child(process, own, output)
            finally:
                process.kill()
                process.wait()
