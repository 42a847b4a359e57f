"""A folder of trajectories: zarr arrays in chunks, compressed, which grow and survive a crash."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ninokit.errors import StoreError
from ninokit.pretraining.cohort import Cohort, CohortDescription, zarr
from ninokit.pretraining.store_table import tabulate_tasks
from ninokit.pretraining.trajectory import Trajectory

__all__ = ["TrajectoryStore"]

_METADATA = "zarr.json"
_FORMAT = {"format": "ninokit trajectories", "version": 1}


class TrajectoryStore:
    """Trajectories of many networks in one folder.

    Networks that are trained together are a cohort, a zarr group at ``TASK/seeds-FIRST-LAST``. Opening a store and
    listing its trajectories reads the cohorts' attributes alone.

    Args:
        root: the zarr group, as `open` and `create` give it.
        path: its folder, for error messages.

    Example:
        >>> import tempfile
        >>> TrajectoryStore.create(Path(tempfile.mkdtemp()) / "trajectories").trajectories
        ()
    """

    def __init__(self, root: Any, path: Path) -> None:
        self._root = root
        self.path = path

    @classmethod
    def open(cls, path: Path | str) -> TrajectoryStore:
        """A store for reading.

        Args:
            path: its folder.

        Returns:
            The store.

        Raises:
            StoreError: there is none at that place, or one of another version, or it is damaged.
            DependencyError: zarr is missing.
        """
        return cls._opened(Path(path), "r")

    @classmethod
    def create(cls, path: Path | str) -> TrajectoryStore:
        """A store for reading and writing, made where there is none.

        Args:
            path: its folder; made if missing.

        Returns:
            The store.

        Raises:
            StoreError: the folder holds something else.
            DependencyError: zarr is missing.
        """
        path = Path(path)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            if not (path / _METADATA).exists():
                raise StoreError(f"{path}: is no store of trajectories, and not an empty folder. Choose another out")
            return cls._opened(path, "r+")
        return cls(zarr().create_group(path, zarr_format=3, attributes=_FORMAT), path)

    @classmethod
    def _opened(cls, path: Path, mode: str) -> TrajectoryStore:
        try:
            root = zarr().open_group(path, mode=mode, zarr_format=3)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise StoreError(
                f"{path}: no store of trajectories is there. `ninokit collect out={path}` makes one"
            ) from error
        except ValueError as error:
            raise StoreError(f"{path / _METADATA}: is damaged ({error}). Restore it from a copy") from error
        found = {key: root.attrs.get(key) for key in _FORMAT}
        if found != _FORMAT:
            raise StoreError(
                f"{path}: expected a zarr group with the attributes {_FORMAT}; got {found}. Choose another"
            )
        return cls(root, path)

    @property
    def trajectories(self) -> Sequence[Trajectory]:
        """All trajectories with a state, those under way included, in the order of their tasks and first seeds."""
        return tuple(found for cohort in self.cohorts() for found in _trajectories(cohort))

    def cohorts(self) -> list[Cohort]:
        """All cohorts, in the order of their tasks and first seeds."""
        found = [self._group(task, group) for task in _groups(self.path) for group in _groups(task)]
        # One without a description was being made when its process died.
        return [Cohort(group) for group in found if "description" in group.attrs]

    def _group(self, task: Path, group: Path) -> Any:
        try:
            return self._root[f"{task.name}/{group.name}"]
        except ValueError as error:
            raise StoreError(
                f"{group / _METADATA}: is damaged ({error}). Restore it from a copy, or remove {group} and collect anew"
            ) from error

    def describe(self) -> str:
        """A table of what the store holds, a task a row; scores are those of its networks that are done."""
        return tabulate_tasks(self.cohorts())

    def add(self, description: CohortDescription) -> Cohort:
        """A new cohort, without states.

        Args:
            description: what will be written.

        Returns:
            The cohort.

        Raises:
            StoreError: a network of one of its seeds is there already.
        """
        taken = {
            seed
            for cohort in self.cohorts()
            if cohort.description.task == description.task
            for seed in cohort.description.seeds
        }
        again = sorted(taken & set(description.seeds))
        if again:
            raise StoreError(
                f"{self.path}: task {description.task!r} has networks of the seeds {again} already. Choose other seeds"
            )
        group = self._root.require_group(description.task).create_group(_name(description), overwrite=True)
        return Cohort.create(group, description)

    def remove(self, description: CohortDescription) -> None:
        """Delete a cohort, with all that is in its folder.

        Args:
            description: of the cohort.
        """
        shutil.rmtree(self.folder(description))

    def folder(self, description: CohortDescription) -> Path:
        """Where a cohort's arrays lie.

        Args:
            description: of the cohort.

        Returns:
            The folder.
        """
        return self.path / description.task / _name(description)


def _groups(folder: Path) -> list[Path]:
    """The folders of the groups in a group, in order.

    zarr's own listing takes for members, and warns of, the files that it writes before it renames them: those of a
    process that writes at this moment, and for ever those of one that was killed.
    """
    return sorted(path.parent for path in folder.glob(f"*/{_METADATA}"))


def _name(description: CohortDescription) -> str:
    return f"seeds-{min(description.seeds):06d}-{max(description.seeds):06d}"


def _trajectories(cohort: Cohort) -> list[Trajectory]:
    about = cohort.description
    return [
        Trajectory(
            task=about.task,
            seed=seed,
            hyperparameters=hyperparameters,
            steps=np.arange(length, dtype=np.int64) * about.every,
            parameters=about.parameters,
            score=score,
            _cohort=cohort,
            _row=row,
        )
        for row, (seed, hyperparameters, length, score) in enumerate(
            zip(about.seeds, about.hyperparameters, cohort.lengths, cohort.scores, strict=True)
        )
        if length
    ]
