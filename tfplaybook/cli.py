"""The `tfplaybook` command."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tfplaybook import studies
from tfplaybook._version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, or 2 after an error in the input."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except ValueError as error:
        sys.stderr.write(f"tfplaybook: {error}\n")
        return 2
    return 0


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
    return parser


def _show(options: argparse.Namespace) -> None:
    console = Console()
    study = studies.load(options.study)
    console.print(study.table())
    if options.plots is not None:
        for path in study.save_plots(options.plots):
            console.print(f"wrote {path}", soft_wrap=True)
