"""The release before this one, whose gateways and relays run beside ours during an upgrade.

It is the commit that AYB_TEST_PREVIOUS names, or the last tag `v*` before HEAD. While nothing is
tagged the SQL of the schema may still be edited in place, so the last commit that did so stands in
for a release.
"""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

from tests.support.requirements import Requirements
from tests.support.stack import PROJECT


def previous_commit(require: Requirements) -> str:
    """Return the commit of the previous release, which a full clone has."""
    require.that((PROJECT / ".git").exists(), "this is no clone of the repository")
    shallow = _git("rev-parse", "--is-shallow-repository") == "true"
    require.that(not shallow, "the clone is shallow (git fetch --unshallow --tags)")
    if given := os.environ.get("AYB_TEST_PREVIOUS"):
        return _git("rev-parse", "--verify", f"{given}^{{commit}}")
    older = ("--merged", "HEAD", "--no-contains", "HEAD")  # a tag on HEAD is this release itself
    tags = _git("tag", *older, "--list", "v*", "--sort=-version:refname").split()
    if tags:
        return _git("rev-parse", f"{tags[0]}^{{commit}}")
    return _git("log", "-1", "--format=%H", "--", "shared/sql")


def unpack(commit: str, folder: Path) -> Path:
    """Write the sources of a commit to a folder."""
    written = subprocess.run(
        ["git", "-C", PROJECT, "archive", commit], check=True, capture_output=True
    )
    with tarfile.open(fileobj=io.BytesIO(written.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", PROJECT, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
