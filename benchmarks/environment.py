"""An environment of its own for pfl-research, whose requirements are not Sunflower's.

``python -m benchmarks.environment`` makes it (a minute or two); so does the first benchmark that
needs it. It stays in Sunflower's cache folder.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

PFL = "0.6.0"

REQUIREMENTS = (
    f"pfl[tf]=={PFL}",
    f"tensorflow=={version('tensorflow')}",
    "tf-keras",  # legacy Keras: see benchmarks.peers.pfl_research
    "setuptools<81",  # pfl imports distutils, which Python 3.12 has no longer
)


class Unavailable(RuntimeError):
    """An environment that cannot be made; the text says why."""


def pfl_python() -> str:
    """Return the Python of an environment with pfl-research, made if need be.

    Raises:
        Unavailable: when pfl does not support this Python, or cannot be installed.
    """
    from simulation.datasets.cache import cache_dir

    if sys.version_info >= (3, 13):
        raise Unavailable(f"pfl {PFL} needs Python below 3.13, this is {sys.version.split()[0]}")
    tag = f"pfl-{PFL}-tensorflow-{version('tensorflow')}-py{sys.version_info.minor}"
    folder = cache_dir() / "benchmarks" / tag
    found = folder / "bin" / "python"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        venv.create(folder, with_pip=True, symlinks=True)
        _install(found, folder)
        (folder / "complete").touch()
    return str(found)


def _install(found: Path, folder: Path) -> None:
    command = [str(found), "-m", "pip", "install", "--quiet", "--no-compile", *REQUIREMENTS]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        errors = [x for x in done.stderr.splitlines() if x.startswith("ERROR")]
        raise Unavailable(errors[-1] if errors else f"pip exited with {done.returncode}")
    # Byte code for all, as Sunflower's own installation has it; some packages ship files that no
    # Python can compile, which does not matter.
    compiled = [str(found), "-m", "compileall", "-q", "-j", "0", str(folder / "lib")]
    subprocess.run(compiled, capture_output=True)


if __name__ == "__main__":
    print(pfl_python())
