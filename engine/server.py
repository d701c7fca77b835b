"""The engine's process: answers the studio's requests and runs one heavy job at a time.

Light requests are answered at once by the thread that reads the stream, also while a job runs.
Jobs run on one worker thread and send events. See `protocol` for the frames and the guide's page
on remote engines for the list of methods.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from . import protocol
from .compiled_loops import used_by
from .control import Control, Stopped
from .errors import BadInput, NeedsConsent, as_bad_input
from .events import Cancelled, Event, Failed, Finished
from .plan import Plan
from .protocol import Decoder, Message, encode
from .workspace import Workspace

if TYPE_CHECKING:
    from .views.preview import Context

Arrays = dict[str, np.ndarray]
Params = dict[str, Any]


def serve() -> int:
    """Speak the protocol on standard input and output until the input ends."""
    # Whatever a library prints must not get between the frames.
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    faulthandler.enable()
    source = os.fdopen(os.dup(0), "rb", buffering=0)
    # A child process that a library starts must not read our frames.
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    server = Server(out)
    decoder = Decoder()
    while data := source.read(1 << 20):
        for message in decoder.feed(data):
            server.handle(message)
    server.close()
    return 0


class Server:
    """One studio's engine: a workspace, at most one job, and the stream out."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._workspace = Workspace()
        self._job: _Job | None = None
        self._last_job = 0
        self._methods: dict[str, Callable[[Params], tuple[Any, Arrays]]] = {
            "hello": self._hello,
            "examples": self._examples,
            "tile": self._tile,
            "value": self._value,
            "histogram": self._histogram,
            "topology": self._topology,
            "start": self._start,
            "cancel": self._cancel,
            "pause": self._pause,
            "unpause": self._unpause,
        }

    def handle(self, message: Message) -> None:
        """Answer one request; every fault becomes an error reply."""
        number = message.header.get("id")
        try:
            method = self._methods.get(message.header.get("method", ""))
            if method is None:
                raise BadInput(f"this engine knows no '{message.header.get('method')}'")
            result, arrays = method(message.header.get("params", {}))
            self.send(Message({"type": "reply", "id": number, "result": result}, arrays))
        except Exception as error:
            bad = as_bad_input(error)
            if bad is None:
                traceback.print_exc(file=sys.stderr)
            text = f"{type(error).__name__}: {error}" if bad is None else str(bad)
            failure = {"message": text, "bad_input": bad is not None}
            self.send(Message({"type": "reply", "id": number, "error": failure}))

    def send(self, message: Message) -> None:
        """Write one frame whole, from whichever thread."""
        data = memoryview(encode(message))
        with self._lock:
            while data:
                data = data[self._out.write(data) :]

    def close(self) -> None:
        """The studio has gone: stop the job, give it a moment to save its checkpoint, and leave."""
        if self._job is not None:
            self._job.control.cancel()
            self._job.thread.join(timeout=5)
        self._workspace.loops.stop()
        sys.stderr.flush()
        os._exit(0)

    def _hello(self, params: Params) -> tuple[Any, Arrays]:
        import torch

        from .. import __version__
        from .machine import describe

        cuda = torch.cuda.is_available()
        return {
            "protocol": protocol.VERSION,
            "version": __version__,
            "torch": torch.__version__,
            "device": "cuda" if cuda else "cpu",
            "device_name": torch.cuda.get_device_name() if cuda else "CPU",
            "threads": torch.get_num_threads(),
            "machine": describe(),
            "pid": os.getpid(),
        }, {}

    def _examples(self, params: Params) -> tuple[Any, Arrays]:
        from .views.views import examples

        return {}, examples()

    def _tile(self, params: Params) -> tuple[Any, Arrays]:
        if params["view"] == "topology":
            from .views import topology

            layer, found, _ = self._workspace.topology(params["layer"])
            return topology.tile(layer, found, params["rect"], params["size"])
        masks, trained = self._workspace.current()
        return self._workspace.views().tile(
            params["layer"], params["view"], params["rect"], params["size"],
            rule=params.get("rule"), masks=masks, trained=trained, context=_context(params),
        )  # fmt: skip

    def _value(self, params: Params) -> tuple[Any, Arrays]:
        masks, trained = self._workspace.current()
        return self._workspace.views().value(
            params["layer"], params["row"], params["column"],
            rule=params.get("rule"), masks=masks, trained=trained, context=_context(params),
        ), {}  # fmt: skip

    def _histogram(self, params: Params) -> tuple[Any, Arrays]:
        masks, trained = self._workspace.current()
        return self._workspace.views().histogram(
            params["layer"], rule=params.get("rule"), bins=params.get("bins", 128),
            masks=masks, trained=trained, context=_context(params),
        )  # fmt: skip

    def _topology(self, params: Params) -> tuple[Any, Arrays]:
        from .views import topology

        layer, found, data = self._workspace.topology(params["layer"])
        return topology.summary(layer, found, topology.image_of(data))

    def _start(self, params: Params) -> tuple[Any, Arrays]:
        if self._job is not None and not self._job.ended:
            raise BadInput("the engine is busy with another job; cancel it or wait for its end")
        make = JOBS.get(params["job"])
        if make is None:
            raise BadInput(f"this engine knows no job '{params['job']}'")
        self._last_job += 1
        self._job = _Job(self._last_job, make, self._workspace, params["params"], self.send)
        self._job.thread.start()
        return {"job": self._last_job}, {}

    def _running(self, params: Params) -> Control:
        if self._job is None or self._job.number != params["job"]:
            raise BadInput(f"job {params['job']} is not running")
        return self._job.control

    def _cancel(self, params: Params) -> tuple[Any, Arrays]:
        self._running(params).cancel()
        return {}, {}

    def _pause(self, params: Params) -> tuple[Any, Arrays]:
        self._running(params).pause()
        return {}, {}

    def _unpause(self, params: Params) -> tuple[Any, Arrays]:
        self._running(params).unpause()
        return {}, {}


def _context(params: Params) -> Context:
    """What the plan says beside the rule that a preview is asked for."""
    from .views.preview import Context

    return Context(int(params.get("seed", 0)), params.get("data"))


JobEvents = Callable[[Workspace, Params, Control], Iterable[Event]]


class _Job:
    """A heavy job on its own thread; sends its events, exactly one of them terminal."""

    def __init__(
        self,
        number: int,
        events: JobEvents,
        workspace: Workspace,
        params: Params,
        send: Callable[[Message], None],
    ) -> None:
        self.number = number
        self.control = Control()
        self.ended = False
        self._send = send
        self._events = lambda: events(workspace, params, self.control)
        self.thread = threading.Thread(target=self._work, name=f"job {number}", daemon=True)

    def _work(self) -> None:
        last = self._last_event()
        # Before the studio hears of the end, so that it may ask for the next job at once.
        self.ended = True
        self._say(last)

    def _last_event(self) -> Event:
        """Send all events but the terminal one, which is returned when the job has cleaned up."""
        try:
            last: Event | None = None
            for event in self._events():
                if event.terminal:
                    last = event
                else:
                    self._say(event)
            if last is None:
                raise RuntimeError("the job ended without saying how")
            return last
        except Stopped:
            return Cancelled()
        except NeedsConsent as error:
            return Failed(str(error), bad_input=True, consent=True)
        except Exception as error:
            if (bad := as_bad_input(error)) is not None:
                return Failed(str(bad), bad_input=True)
            detail = traceback.format_exc()
            sys.stderr.write(detail)
            return Failed(f"{type(error).__name__}: {error}", detail=detail)

    def _say(self, event: Event) -> None:
        self._send(Message({"type": "event", "job": self.number, "event": event.to_json()}))


def _open(workspace: Workspace, params: Params, control: Control) -> Iterable[Event]:
    result = workspace.open(params["address"], params.get("arch"), bool(params.get("trust")))
    control.check()
    yield Finished(result)
    # Now the person looks at the model; before, everything was in a hurry.
    workspace.loops.prepare()


def _prune(workspace: Workspace, params: Params, control: Control) -> Iterable[Event]:
    plan, folder = Plan.from_json(params["plan"]), Path(params["out"])
    device, resume = params.get("device", "auto"), bool(params.get("resume"))
    trust = bool(params.get("trust_data"))
    run = workspace.prune(plan, folder, device, resume, control, trust)
    return workspace.loops.ahead_of(run, control.cancelled) if used_by(plan) else run


def _measure(workspace: Workspace, params: Params, control: Control) -> Iterable[Event]:
    from ..kernels.dispatch.memory import Memory, default_folder
    from .measuring.measure import measure
    from .measuring.request import Request

    model, masks, labels = workspace.pruned()
    request = Request.from_params(params)
    if not request.as_it_is:
        # What a run has pruned already would be fewer weights than a cell says.
        model = workspace.model()
    memory = Memory(default_folder(), fresh=request.fresh)
    cancel = control.cancelled
    found = measure(model, masks, request, labels=labels, memory=memory, cancel=cancel)
    return workspace.loops.ahead_of(found, cancel)


def _export(workspace: Workspace, params: Params, control: Control) -> Iterable[Event]:
    from .export import export
    from .project import Project

    model, masks = workspace.load_project(params["project"], params.get("level"))
    nested = params["format"] == "nested"
    levels = Project.open(params["project"]).levels(masks) if nested else None
    control.check()
    yield Finished(export(model, masks, params["format"], Path(params["out"]), levels).to_json())


def _verify(workspace: Workspace, params: Params, control: Control) -> Iterable[Event]:
    from .models import open_model
    from .project import Project
    from .verify import verify

    against = params["against"]
    if Project.is_project(Path(against)):
        model, masks = workspace.load_project(against)
    else:
        model, masks = open_model(against), None
    yield Finished(verify(Path(params["exported"]), model, masks).to_json())


JOBS: dict[str, JobEvents] = {
    "open": _open,
    "prune": _prune,
    "measure": _measure,
    "export": _export,
    "verify": _verify,
}
