"""Manage a model store.

  python -m detector list
  python -m detector verify models/digits/1
  python -m detector label digits stable 2
  python -m detector unlabel digits canary
  python -m detector retain digits --keep 3
  python -m detector triton digits

`verify` checks every byte of a version folder against its manifest and runs the self-test.
A service that polls the store follows a label within seconds.
`triton` writes `config.pbtxt` for the newest version, as publishing does.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

from detector.errors import DetectorError
from detector.inference import Detector
from detector.store import ModelStore


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 done, 1 failed, 2 bad usage."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (DetectorError, OSError) as error:  # OSError: no permission to write to the store
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m detector", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], None], *, model: bool = True
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=(run.__doc__ or "").splitlines()[0])
        sub.set_defaults(run=run)
        if model:
            sub.add_argument("name", help="model name")
        return sub

    listing = command("list", _list, model=False)
    command("verify", _verify, model=False).add_argument("folder", help="a version folder")
    label = command("label", _label)
    label.add_argument("label")
    label.add_argument("version", type=int)
    unlabel = command("unlabel", _unlabel)
    unlabel.add_argument("label")
    retain = command("retain", _retain)
    retain.add_argument("--keep", type=int, required=True, help="how many of the newest versions to keep")
    triton = command("triton", _triton)
    for sub in (listing, label, unlabel, retain, triton):
        sub.add_argument("--store", default="models", help="folder of the store (default: models)")
    return parser


def _list(arguments: argparse.Namespace) -> None:
    """Print every model with its versions and labels."""
    store = ModelStore(arguments.store)
    names = store.names()
    if not names:
        print(f"there is no model in {arguments.store}", file=sys.stderr)
    for name in names:
        labels = ", ".join(f"{label} -> {version}" for label, version in sorted(store.labels(name).items()))
        print(f"{name}: versions {store.versions(name)}" + (f", labels {labels}" if labels else ""))


def _verify(arguments: argparse.Namespace) -> None:
    """Check every byte of a version folder and run its self-test."""
    detector = Detector.load(arguments.folder)
    print(f"{detector.manifest.name} version {detector.manifest.version}: ok, digest {detector.digest}")


def _label(arguments: argparse.Namespace) -> None:
    """Point a label at a version."""
    ModelStore(arguments.store).set_label(arguments.name, arguments.label, arguments.version)


def _unlabel(arguments: argparse.Namespace) -> None:
    """Remove a label."""
    ModelStore(arguments.store).set_label(arguments.name, arguments.label, None)


def _retain(arguments: argparse.Namespace) -> None:
    """Remove all versions but the newest and those with a label."""
    removed = ModelStore(arguments.store).retain(arguments.name, arguments.keep)
    print(f"removed versions {removed}" if removed else "nothing to remove")


def _triton(arguments: argparse.Namespace) -> None:
    """Write config.pbtxt for the newest version."""
    print(ModelStore(arguments.store).write_config(arguments.name))


if __name__ == "__main__":
    sys.exit(main())
