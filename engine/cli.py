"""The command line. Names, flags and JSON keys are a contract.

Exit status 0 on success, 2 on bad input with one clear line on stderr, 130 after Ctrl+C, 1 on a
fault of ours. With ``--json`` exactly one JSON object goes to stdout, and nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from .control import Control
from .errors import BadInput, as_bad_input, nearest
from .interrupts import StoppedHalfway, interrupt_cancels
from .levels import index_of
from .measuring import command as measuring
from .runs import command as pruning

Studio = Callable[[list[str]], int]
Tour = Callable[[Path], int]


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as every other error here."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message}; see {self.prog} --help")


def main(
    argv: list[str] | None = None, studio: Studio | None = None, tour: Tour | None = None
) -> int:
    """Run one command; returns the exit status.

    `studio` and `tour` open the window; without them these two commands say that it is missing.
    """
    # Spinning OpenMP threads make torch 10 to 30 times slower while another process is busy.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    argv = sys.argv[1:] if argv is None else argv
    try:
        if _opens_studio(argv):
            return _window(studio)(argv)
        args = _parser().parse_args(argv)
        if args.command == "tour":
            return _window(tour)(Path(args.out))
        return _run(args)
    except KeyboardInterrupt as stopped:
        print(f"secateur: {str(stopped) or 'stopped'}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except Exception as error:
        if (bad := as_bad_input(error)) is not None:
            print(f"secateur: {' '.join(str(bad).split())}", file=sys.stderr)
            return 2
        if os.environ.get("SECATEUR_DEBUG"):
            traceback.print_exc()
        what = " ".join(f"{type(error).__name__}: {error}".split())
        print(f"secateur: a fault of ours: {what} (SECATEUR_DEBUG=1 shows where)", file=sys.stderr)
        return 1


def _opens_studio(argv: list[str]) -> bool:
    """Whether this is no command but an address; BadInput for a word that can be neither."""
    if not argv:
        return True
    word = argv[0]
    if word in _COMMANDS or word.startswith("-"):
        return False
    if word.isidentifier() and not Path(word).exists():
        raise BadInput(f"'{word}' is no command and no file{nearest(word, _COMMANDS)}")
    return True


def _window(start: Any) -> Any:
    if start is None:
        raise BadInput("this command needs the window; install secateur with PySide6, run secateur")
    return start


def _run(args: argparse.Namespace) -> int:
    if args.command == "engine":
        return _engine(args)
    with _only_json(args.json) as emit:
        try:
            result, text = _COMMANDS[args.command](args)
        except StoppedHalfway as stopped:
            emit(stopped.result, stopped.text)
            raise
        emit(result, text)
    return 0


def _engine(args: argparse.Namespace) -> int:
    if args.prepare:
        from ..kernels.compiled.ahead import fill

        fill()
        return 0
    from .server import serve

    return serve()


@contextlib.contextmanager
def _only_json(wanted: bool) -> Iterator[Callable[[dict[str, Any], str], None]]:
    """Keep stdout for the result: whatever a library prints meanwhile goes to stderr."""
    sys.stdout.flush()
    real = os.dup(1)
    os.dup2(2, 1)
    try:

        def emit(result: dict[str, Any], text: str) -> None:
            line = json.dumps(result, allow_nan=False, ensure_ascii=False) if wanted else text
            with os.fdopen(os.dup(real), "w", encoding="utf-8") as out:
                out.write(line + "\n")

        yield emit
    finally:
        sys.stdout.flush()
        os.dup2(real, 1)
        os.close(real)


def _parser() -> argparse.ArgumentParser:
    from .. import __version__

    parser = _Parser(
        prog="secateur",
        description="Prune neural networks. Without a command: open the studio, on a MODEL or a "
        "PROJECT if one is named.",
    )
    parser.add_argument("--version", action="version", version=f"secateur {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, help: str, json_output: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        if json_output:
            sub.add_argument("--json", action="store_true", help="print one JSON object")
        return sub

    def weights(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--arch", help="architecture of a file of weights")
        sub.add_argument("--trust-pickle", action="store_true", help="run the code inside a pickle")

    def level(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--level", type=float, help="one of a project's nested levels")

    sub = command("tour", "drive the window through a session and save pictures", False)
    sub.add_argument("--out", required=True, help="folder for the pictures")

    sub = command("inspect", "show the layers of a model")
    sub.add_argument("model", metavar="MODEL", help="address of a model, or a project")
    weights(sub)
    sub.add_argument("--check", action="store_true", help="compare each layer with its GEMM view")
    sub.add_argument("--density", action="store_true", help="count zeros of large files too")

    sub = command("prune", "run a plan on a model")
    sub.add_argument("model", metavar="MODEL", help="address of a model")
    weights(sub)
    pruning.add_arguments(sub)

    sub = command("measure", "time a model dense against sparse")
    sub.add_argument("model", metavar="MODEL", nargs="?", help="address of a model, or a project")
    weights(sub)
    measuring.add_arguments(sub)
    level(sub)

    sub = command("export", "write a project's compressed model and read it back")
    sub.add_argument("project", metavar="DIR", help="folder that prune wrote")
    sub.add_argument("--format", required=True, help="onnx, safetensors, compressed or nested")
    sub.add_argument("--out", required=True, help="file to write")
    level(sub)
    weights(sub)

    sub = command(
        "verify",
        "run an exported file against a model or project; exits with 0 whatever comes of it, and "
        "with --json the key 'equal' says whether they agree",
    )
    sub.add_argument("exported", metavar="EXPORTED", help="file that export wrote")
    sub.add_argument("--against", required=True, help="model address or project folder")
    level(sub)
    weights(sub)

    command("doctor", "show what this machine can do")
    sub = command("engine", "the process that the studio talks to", False)
    sub.add_argument(
        "--prepare",
        action="store_true",
        help="only compile the loops that the CPU needs, once on a machine, and leave",
    )
    return parser


Result = tuple[dict[str, Any], str]


def _inspect(args: argparse.Namespace) -> Result:
    from . import text
    from .models import inspect_model, open_model
    from .project import Project

    known = {"arch": args.arch, "trust_pickle": args.trust_pickle}
    folder = Path(args.model)
    project = Project.open(folder) if Project.is_project(folder) else None
    if args.check or project:
        model = project.open_model(**known) if project else open_model(args.model, **known)
        result = model.info.to_json()
    else:
        result = inspect_model(args.model, **known, count=args.density).to_json()
    if args.check:
        from .gemm_check import check

        result["check"] = check(model)
    if project:
        note = f"{folder} is a project; these are the layers of {project.address} before the run"
        result["notes"] = [*result["notes"], note]
    return result, text.inspect(result)


def _measure(args: argparse.Namespace) -> Result:
    control = Control()
    measuring.check(args)
    if args.paper:
        with interrupt_cancels(control):
            return measuring.run_paper(args, control.cancelled)
    model, masks = _model_or_project(args.model, args)
    with interrupt_cancels(control):
        return measuring.run(args, model, masks, _labels(args.model), control.cancelled)


def _labels(address: str) -> dict[str, str]:
    """The pattern of each layer of a pruned project, as its report names it."""
    from .project import Project

    folder = Path(address)
    report = Project.open(folder).report() if Project.is_project(folder) else None
    return {row["path"]: row["pattern"] for row in report["layers"]} if report else {}


def _export(args: argparse.Namespace) -> Result:
    from . import text
    from .export import export
    from .project import Project

    if args.format == "nested" and args.level is not None:
        raise BadInput("format nested holds all levels; leave --level out")
    project = Project.open(args.project)
    model, masks = project.load(args.arch, args.trust_pickle, args.level)
    levels = project.levels(masks) if args.format == "nested" else None
    exported = export(model, masks, args.format, Path(args.out), levels)
    result = exported.to_json()
    return result, text.export(result)


def _verify(args: argparse.Namespace) -> Result:
    from . import text
    from .verify import verify

    model, masks = _model_or_project(args.against, args)
    result = verify(Path(args.exported), model, masks, args.level).to_json()
    return result, text.verify(result)


def _doctor(args: argparse.Namespace) -> Result:
    from .doctor import examine, render

    result = examine()
    return result, render(result)


def _model_or_project(address: str, args: argparse.Namespace) -> tuple[Any, Any]:
    """(model, masks) of a project's folder, or (model, None) of a model's address."""
    from .models import open_model
    from .project import Project

    if Project.is_project(Path(address)):
        return Project.open(address).load(args.arch, args.trust_pickle, args.level)
    index_of((), args.level, address)
    return open_model(address, arch=args.arch, trust_pickle=args.trust_pickle), None


_COMMANDS: dict[str, Any] = {
    "tour": None,
    "inspect": _inspect,
    "prune": pruning.run,
    "measure": _measure,
    "export": _export,
    "verify": _verify,
    "doctor": _doctor,
    "engine": None,
}
