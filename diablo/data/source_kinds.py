"""Where a model or a data set comes from: one class for each kind of source, pinned and checked.

Nothing here imports torch.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from diablo.validation import Strict

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
Repository = Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]


def _inside(path: str) -> str:
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError("must stay inside its folder: no leading slash, no '..'")
    return path


Inside = Annotated[str, Field(min_length=1), AfterValidator(_inside)]
Part = Annotated[
    str, Field(pattern=r"^[\w-]+/(train|test)$", description="TASK/train or TASK/test")
]


def _is_commit(text: str) -> bool:
    return re.fullmatch("[0-9a-f]{40}", text) is not None


class PypiSource(Strict):
    """A file that ships inside a package of the lock file."""

    kind: Literal["pypi"]
    package: str = Field(description="name on the package index")
    version: str
    module: str = Field(description="import name of the package")
    path: Inside
    sha256: Sha256
    bytes: int = Field(gt=0)
    part: Part | None = Field(None, description="of a data file; a model's has none")
    format: str | None = Field(None, description="how a data file is read")

    @model_validator(mode="after")
    def _data_have_both(self) -> PypiSource:
        if (self.part is None) != (self.format is None):
            raise ValueError(
                "give both `part` and `format` of a data file, or neither of a model's"
            )
        return self

    @property
    def name(self) -> str:
        return f"{self.package}=={self.version}: {self.path}"


class GithubSource(Strict):
    """A file of a GitHub repository at one commit."""

    kind: Literal["github"]
    repo: Repository
    commit: Commit
    path: Inside
    sha256: Sha256 | Literal["unknown"] = Field(
        description="`unknown` is said plainly: recorded at the first download, checked afterwards"
    )
    bytes: int | None = Field(None, gt=0)
    part: Part
    format: str = Field(description="how the file is read, a name in the builder's READERS")

    @property
    def location(self) -> Path:
        """Path inside a mirror or the cache."""
        return Path("github", self.repo, self.commit, self.path)

    @property
    def name(self) -> str:
        return str(self.location)


class HfFileSource(Strict):
    """A file of a data set's repository on the Hugging Face Hub at one commit."""

    kind: Literal["hf-file"]
    repo: Repository
    commit: str = Field(
        pattern=r"^\w[\w./-]*$",
        description="40 digits; a branch with `unpinned: true`; `unknown` of a file that is `gone`",
    )
    unpinned: bool = False
    path: Inside
    sha256: Sha256 | Literal["unknown"] = Field(
        description="`unknown` is said plainly: recorded at the first download, checked afterwards"
    )
    bytes: int | None = Field(None, gt=0)
    part: Part
    format: str = Field(description="how the file is read, a name in the builder's READERS")
    gated: bool = Field(False, description="its terms must be accepted before it can be downloaded")
    gone: str | None = Field(None, description="why it cannot be downloaded any more")

    @model_validator(mode="after")
    def _pinned(self) -> HfFileSource:
        if ".." in self.commit.split("/"):
            raise ValueError(f"commit {self.commit!r} of {self.repo} must not contain '..'")
        if _is_commit(self.commit) and self.unpinned:
            raise ValueError(f"commit of {self.repo} is pinned: leave `unpinned` out")
        if not (
            _is_commit(self.commit) or self.unpinned or (self.commit == "unknown" and self.gone)
        ):
            raise ValueError(
                f"commit {self.commit!r} of {self.repo}: give the 40 digits, or say `unpinned: true` of "
                "a branch (only a file that is `gone` may have none)"
            )
        return self

    @property
    def location(self) -> Path:
        """Path inside a mirror or the cache."""
        return Path("hf-datasets", self.repo, self.commit, self.path)

    @property
    def name(self) -> str:
        return str(self.location)


class HfSource(Strict):
    """Files of a model repository on the Hugging Face Hub."""

    kind: Literal["hf"]
    repo: Repository
    revision: str = Field(description="commit hash, or a branch with `unpinned: true`")
    unpinned: bool = False
    files: list[str] = Field(min_length=1, description="patterns of the files that are needed")

    @model_validator(mode="after")
    def _pinned(self) -> HfSource:
        pinned = _is_commit(self.revision)
        if pinned == self.unpinned:
            raise ValueError(
                f"revision {self.revision!r} of {self.repo}: give the 40-digit commit hash"
                + (", without `unpinned`" if pinned else ", or say `unpinned: true`")
            )
        return self

    @property
    def location(self) -> Path:
        """Folder inside a mirror or the cache."""
        return Path("hf", self.repo, self.revision)

    @property
    def name(self) -> str:
        return str(self.location)


class GeneratedSource(Strict):
    """Problems made by a seeded generator of an installed package (perhaps this one)."""

    kind: Literal["generated"]
    package: str
    version: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.package}=={self.version}, seed {self.seed}"


class LocalSource(Strict):
    """A user's own file, or the folder of a model."""

    kind: Literal["local"]
    path: str = Field(description="absolute")
    sha256: Sha256 | None = Field(None, description="of a file; a folder has none")
    split: Literal["train", "test"] | None = Field(None, description="what a data file is for")

    @property
    def name(self) -> str:
        return self.path


#: Single files that are downloaded.
RemoteFile = GithubSource | HfFileSource
Source = Annotated[
    PypiSource | GithubSource | HfFileSource | HfSource | GeneratedSource | LocalSource,
    Field(discriminator="kind"),
]

#: A source's class by its `kind`.
KINDS: dict[str, type[Strict]] = {
    "pypi": PypiSource,
    "github": GithubSource,
    "hf-file": HfFileSource,
    "hf": HfSource,
    "generated": GeneratedSource,
    "local": LocalSource,
}
