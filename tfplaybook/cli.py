"""The `tfplaybook` command."""

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from tfplaybook import studies
from tfplaybook._version import __version__
from tfplaybook.search._launcher import RestartPolicy, launch


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 2 after an error in the input.

    `search` has more of them: `tfplaybook.search._launcher.launch` lists them.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    # What comes after is for the script of a search.
    end = given.index("--") if given[:1] == ["search"] and "--" in given else len(given)
    options = _parser().parse_args(given[:end])
    options.script_arguments = given[end + 1 :]
    try:
        return options.run(options) or 0
    except ValueError as error:
        sys.stderr.write(f"tfplaybook: {error}\n")
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tfplaybook", description="The Deep Learning Tuning Playbook for TensorFlow and Keras."
    )
    parser.add_argument("--version", action="version", version=f"tfplaybook {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    show = commands.add_parser("show", help="print the trials of a study, best first")
    show.add_argument("study", type=Path, help="the study's directory")
    show.add_argument("--plots", type=Path, metavar="DIR", help="also write its pictures here")
    show.set_defaults(run=_show)
    report = commands.add_parser("report", help="write a study as one HTML page")
    report.add_argument("study", type=Path, help="the study's directory")
    report.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="default: report.html within the study"
    )
    report.add_argument("--objective", metavar="METRIC", help="compare trials by this metric")
    report.set_defaults(run=_report)
    index = commands.add_parser("index", help="list the studies below a directory")
    index.add_argument("directory", type=Path, help="the directory")
    index.add_argument("--markdown", action="store_true", help="print it as Markdown")
    index.set_defaults(run=_index)
    diagnose = commands.add_parser("diagnose", help="say what to do next with a study, and why")
    diagnose.add_argument("study", type=Path, help="the study's directory")
    diagnose.add_argument("--objective", metavar="METRIC", help="compare trials by this metric")
    diagnose.add_argument(
        "--scientific", nargs="+", default=(), metavar="NAME", help="whose effect is measured"
    )
    diagnose.add_argument("--baseline", metavar="TRIAL", help="the trial to compare the best with")
    diagnose.set_defaults(run=_diagnose)
    search = commands.add_parser(
        "search",
        help="run a search script as a chief and workers on this machine",
        epilog="Arguments of the script itself come last, after a `--`.",
    )
    search.add_argument("script", type=Path, help="a Python script that calls `tuner.search`")
    search.add_argument("--workers", type=int, required=True, metavar="N", help="how many workers")
    search.add_argument(
        "--address", default="127.0.0.1", help="where the chief listens (this machine only)"
    )
    search.add_argument("--port", type=int, default=0, help="its port (a free one)")
    search.add_argument("--logs", type=Path, metavar="DIR", help="keep what the processes print")
    search.add_argument(
        "--max-deaths",
        type=int,
        default=3,
        metavar="N",
        help="give up on a process that dies so often before another trial is done (3)",
    )
    search.set_defaults(run=_search)
    profile = commands.add_parser("profile", help="say what limits an input pipeline")
    profile.add_argument(
        "pipeline", metavar="MODULE:FUNCTION", help="a function that returns a tf.data.Dataset"
    )
    profile.add_argument("--seconds", type=float, default=3.0, help="time to measure; default 3")
    profile.add_argument("--plot", type=Path, metavar="FILE", help="also draw it into this file")
    profile.set_defaults(run=_profile)
    return parser


def _show(options: argparse.Namespace) -> None:
    console = Console()
    study = studies.load(options.study)
    console.print(study.table())
    if options.plots is not None:
        saved = study.save_plots(options.plots)
        for path in saved:
            console.print(f"wrote {path}", soft_wrap=True, markup=False)
        for name, reason in saved.skipped.items():
            console.print(f"left out {name}: {reason}", soft_wrap=True, markup=False)


def _report(options: argparse.Namespace) -> None:
    study = _study(options)
    folder = study.path if study.path.is_dir() else study.path.parent
    path = study.report(options.output or folder / "report.html")
    Console().print(f"wrote {path}", soft_wrap=True, markup=False, highlight=False)


def _index(options: argparse.Namespace) -> None:
    found = studies.index(options.directory)
    if options.markdown:
        sys.stdout.write(found.to_markdown())
        return
    console = Console()
    console.print(found.table())
    for line in found.reproductions():
        # Whole, whatever the width: a command with a line break is another one.
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def _diagnose(options: argparse.Namespace) -> None:
    study = _study(options)
    found = study.diagnose(scientific=options.scientific, baseline=options.baseline)
    Console().print(found)


def _study(options: argparse.Namespace) -> studies.Study:
    """Return the study, compared by `--objective` if that is given."""
    study = studies.load(options.study)
    return study if options.objective is None else study.with_objective(options.objective)


def _search(options: argparse.Namespace) -> int:
    return launch(
        options.script,
        options.script_arguments,
        num_workers=options.workers,
        address=options.address,
        port=options.port,
        logs=options.logs,
        policy=RestartPolicy(options.max_deaths),
        console=Console(),
    )


def _profile(options: argparse.Namespace) -> None:
    factory = _load_function(options.pipeline)
    import pipelines
    from pipelines._measurement import NoPipelineError

    try:
        findings = pipelines.lint(factory)
        found = pipelines.profile(factory, seconds=options.seconds)
    except NoPipelineError as error:
        raise ValueError(str(error)) from error
    sys.stdout.write(f"{found}\n")
    for finding in findings:
        sys.stdout.write(f"{finding}\n")
    if options.plot is not None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.2, 4.0), dpi=150, layout="constrained")
        found.plot(figure.subplots())
        figure.savefig(options.plot)
        sys.stdout.write(f"wrote {options.plot}\n")


def _load_function(name: str) -> Callable[[], Any]:
    """Return what `module:function` names, the module found from the current directory as well.

    The directory stays on the path, as with `python -m`, since the function may import from it.
    """
    module_name, _, function_name = name.partition(":")
    if not module_name or not function_name:
        raise ValueError(
            "MODULE:FUNCTION must name a function in a module, such as 'train:make_dataset'. "
            f"Received: {name!r}."
        )
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        # A module that the user's own module lacks is an error in that one, with its traceback.
        if missing != module_name and not module_name.startswith(f"{missing}."):
            raise
        advice = ""
        if module_name.endswith(".py"):
            advice = f" Leave out the '.py': {module_name.removesuffix('.py')}:{function_name}."
        raise ValueError(
            f"There is no module {missing!r} to import {name!r} from.{advice}"
        ) from error
    function = getattr(module, function_name, None)
    if function is None:
        raise ValueError(f"The module {module_name!r} has no function {function_name!r}.")
    if not callable(function):
        raise ValueError(
            f"{name!r} must be a function that returns a `tf.data.Dataset`. Received: "
            f"{type(function).__name__}."
        )
    return function
