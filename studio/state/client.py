"""The engine's process as the studio sees it: the only file here that knows the protocol."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from PySide6.QtCore import QObject, QProcess, QProcessEnvironment, QTimer, Signal

from ...engine import events, protocol

OnReply = Callable[[dict[str, Any], dict[str, np.ndarray]], None]
OnError = Callable[[str], None]
_KEPT_LINES = 200
FAULT = "The engine met a fault of its own. It goes on, and the plan is safe."
"""Said of every fault that is not the person's; Python's own words are for the details."""


def engine_command() -> list[str]:
    """The command that starts an engine.

    `SECATEUR_ENGINE` (such as ``ssh host secateur engine``), in a frozen build the program itself,
    else this Python.
    """
    override = os.environ.get("SECATEUR_ENGINE", "").strip()
    if override:
        return shlex.split(override)
    if getattr(sys, "frozen", False):
        return [sys.executable, "engine"]
    return [sys.executable, "-m", "secateur.engine", "engine"]


class EngineClient(QObject):
    """Owns one engine process: requests with callbacks, events of live jobs, states.

    States: ``starting``, ``ready`` (the greeting's protocol version fits), ``failed`` (it died or
    was refused) and ``stopped``. `died` carries one sentence that says why; `stderr` holds the
    engine's last lines, `last_words` those of the engine that died. Every callback runs on the
    caller's thread, at most once, and never after the engine that was asked has gone, except
    `on_error`.
    """

    state_changed = Signal(str)
    job_event = Signal(int, object)
    died = Signal(str)
    faulted = Signal(str)

    def __init__(self, command: list[str] | None = None, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.command = command
        self.cancel_deadline_ms = 5000
        self.hello: dict[str, Any] = {}
        self.stderr: deque[str] = deque(maxlen=_KEPT_LINES)
        self.last_words: tuple[str, ...] = ()
        self.state = "stopped"
        self._process: QProcess | None = None
        self._decoder = protocol.Decoder()
        self._replies: dict[int, tuple[OnReply, OnError | None]] = {}
        self._waiting: list[bytes] = []
        self._next_id = 1
        self._live: set[int] = set()
        self._starting = 0
        self._early: list[tuple[int, events.Event]] = []
        self._reason = ""

    # Life of the process

    def start(self) -> None:
        """Start the engine; `state_changed` says ``ready`` once it has greeted back."""
        if self._process is not None:
            return
        command = self.command or engine_command()
        process = QProcess(self)
        environment = QProcessEnvironment.systemEnvironment()
        # Spinning OpenMP threads slow a busy machine down tenfold and more.
        environment.insert("OMP_WAIT_POLICY", "passive")
        environment.insert("PYTHONUNBUFFERED", "1")
        process.setProcessEnvironment(environment)
        process.setProgram(command[0])
        process.setArguments(command[1:])
        process.readyReadStandardOutput.connect(self._read)
        process.readyReadStandardError.connect(self._read_stderr)
        process.finished.connect(self._finished)
        process.errorOccurred.connect(self._failed_to_start)
        self._process = process
        self._decoder = protocol.Decoder()
        self._reason = ""
        self.stderr = deque(maxlen=_KEPT_LINES)
        self._set_state("starting")
        process.start()
        if self._process is not process:
            return  # it could not be started, and whoever listens knows
        self._send("hello", {}, self._greeted, self._refuse, at_once=True)

    def restart(self) -> None:
        """Kill the engine, if one runs, and start a fresh one."""
        self._drop_process()
        self._fail_all("The engine was restarted.")
        self.start()

    def shutdown(self, wait_ms: int = 3000) -> None:
        """Ask the engine to leave by closing its input; kill it if it does not within `wait_ms`."""
        process = self._process
        self._waiting.clear()
        self._live.clear()
        self._replies.clear()
        if process is not None:
            process.closeWriteChannel()
            self._disconnect(process)
            if not process.waitForFinished(wait_ms):
                process.kill()
                process.waitForFinished(5000)
            process.deleteLater()
            self._process = None
        self._set_state("stopped")

    @property
    def pid(self) -> int:
        """Process id of the local child, 0 when none runs."""
        return int(self._process.processId()) if self._process is not None else 0

    @property
    def pending(self) -> int:
        """Questions that were asked and not answered yet."""
        return len(self._replies)

    # What the rest of the studio asks

    def request(
        self,
        method: str,
        params: dict[str, Any],
        on_reply: OnReply,
        on_error: OnError | None = None,
    ) -> None:
        """Ask the engine.

        While it starts, the question waits; with no engine `on_error` is called from the event
        loop.
        """
        if self.state in ("stopped", "failed"):
            if on_error is not None:
                QTimer.singleShot(0, self, lambda: on_error("The engine is not running."))
            return
        self._send(method, params, on_reply, on_error)

    def start_job(
        self,
        job: str,
        params: dict[str, Any],
        on_started: Callable[[int], None],
        on_error: OnError | None = None,
    ) -> None:
        """Start a heavy job; its events come by `job_event` after `on_started(job id)`."""
        self._starting += 1

        def started(result: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
            self._starting -= 1
            number = int(result["job"])
            self._live.add(number)
            on_started(number)
            early, self._early = self._early, []
            for job_id, event in early:
                self._deliver(job_id, event)

        def refused(message: str) -> None:
            self._starting -= 1
            if on_error is not None:
                on_error(message)

        self.request("start", {"job": job, "params": params}, started, refused)

    def cancel(self, job: int) -> None:
        """Ask a job to stop; if it has not by the deadline, kill the engine."""
        if job not in self._live:
            return
        self.request("cancel", {"job": job}, lambda result, arrays: None)
        process = self._process
        QTimer.singleShot(self.cancel_deadline_ms, self, lambda: self._give_up(job, process))

    def _give_up(self, job: int, process: QProcess | None) -> None:
        if job not in self._live or process is None or process is not self._process:
            return
        seconds = self.cancel_deadline_ms / 1000
        self._reason = f"The engine did not stop within {seconds:g} s, so it was ended."
        process.kill()

    # Out

    def _send(
        self,
        method: str,
        params: dict[str, Any],
        on_reply: OnReply,
        on_error: OnError | None,
        at_once: bool = False,
    ) -> None:
        number, self._next_id = self._next_id, self._next_id + 1
        self._replies[number] = (on_reply, on_error)
        header = {"type": "request", "id": number, "method": method, "params": params}
        frame = protocol.encode(protocol.Message(header))
        if self._process is not None and (at_once or self.state == "ready"):
            self._process.write(frame)
        else:
            self._waiting.append(frame)

    # In

    def _read(self) -> None:
        process = self._process
        if process is None:
            return
        try:
            messages = self._decoder.feed(bytes(process.readAllStandardOutput().data()))
        except protocol.ProtocolError as error:
            self._refuse(str(error))
            return
        for message in messages:
            if process is not self._process:
                return  # a callback has ended this engine
            try:
                self._handle(message)
            except Exception:
                # One panel's fault must not swallow what the engine says to the others.
                sys.excepthook(*sys.exc_info())

    def _handle(self, message: protocol.Message) -> None:
        header = message.header
        if header.get("type") == "reply":
            on_reply, on_error = self._replies.pop(header["id"], (None, None))
            error = header.get("error")
            if error is not None:
                said = str(error["message"])
                if not error.get("bad_input"):
                    self.faulted.emit(said)
                    said = FAULT
                if on_error is not None:
                    on_error(said)
            elif on_reply is not None:
                on_reply(header["result"], message.arrays)
        elif header.get("type") == "event":
            event = events.from_json(header["event"])
            job = int(header["job"])
            if job not in self._live and self._starting:
                self._early.append((job, event))
            else:
                self._deliver(job, event)

    def _deliver(self, job: int, event: events.Event) -> None:
        # The one place where late events of an old job are dropped.
        if job not in self._live:
            return
        if event.terminal:
            self._live.discard(job)
        self.job_event.emit(job, event)

    def _greeted(self, result: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        version = result.get("protocol")
        if version != protocol.VERSION:
            self._refuse(
                f"The engine speaks protocol {version} and this studio {protocol.VERSION}: "
                f"install the same version of Secateur on both sides."
            )
            return
        self.hello = result
        self._set_state("ready")
        waiting, self._waiting = self._waiting, []
        for frame in waiting:
            if self._process is not None:
                self._process.write(frame)

    def _read_stderr(self) -> None:
        if self._process is not None:
            text = bytes(self._process.readAllStandardError().data()).decode(errors="replace")
            self.stderr.extend(line for line in text.splitlines() if line.strip())

    # Ends

    def _failed_to_start(self, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart and self._process is not None:
            words = shlex.join([self._process.program(), *self._process.arguments()])
            self._refuse(f"The engine could not be started: {words}")

    def _finished(self, code: int, status: QProcess.ExitStatus) -> None:
        self._read_stderr()
        reason = self._reason or _why(code, status, list(self.stderr))
        self._refuse(reason)

    def _refuse(self, reason: str) -> None:
        self._read_stderr()
        self.last_words = tuple(self.stderr)
        self._drop_process()
        self._set_state("failed")
        self._fail_all(reason)
        self.died.emit(reason)

    def _drop_process(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        self._disconnect(process)
        if process.state() != QProcess.ProcessState.NotRunning:
            process.kill()
            process.waitForFinished(5000)
        process.deleteLater()

    def _disconnect(self, process: QProcess) -> None:
        process.readyReadStandardOutput.disconnect(self._read)
        process.readyReadStandardError.disconnect(self._read_stderr)
        process.finished.disconnect(self._finished)
        process.errorOccurred.disconnect(self._failed_to_start)

    def _fail_all(self, reason: str) -> None:
        self._waiting.clear()
        self._live.clear()
        self._early.clear()
        replies, self._replies = self._replies, {}
        for _, on_error in replies.values():
            if on_error is not None and on_error != self._refuse:
                on_error(reason)

    def _set_state(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self.state_changed.emit(state)


def _why(code: int, status: QProcess.ExitStatus, lines: list[str]) -> str:
    """One sentence for an engine that ended by itself."""
    last = lines[-1].strip() if lines else ""
    if status == QProcess.ExitStatus.CrashExit:
        try:
            name = signal.Signals(code).name
        except ValueError:
            name = f"signal {code}"
        hint = ", which is what a system short of memory does" if name == "SIGKILL" else ""
        return f"The engine was ended by {name}{hint}."
    if last:
        return f"The engine ended with exit code {code}: {last}"
    return f"The engine ended with exit code {code}."
