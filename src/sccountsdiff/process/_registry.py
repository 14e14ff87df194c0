"""Names for classes: the only place where a string turns into code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class UnknownNameError(ValueError):
    """A name that a registry does not hold; the message lists those it does."""


class Registry(Mapping[str, type[T]], Generic[T]):
    """Mapping from a public name to a class, whose errors list the names.

    Parameters
    ----------
    kind
        What the classes are, for error messages ("survival schedule").
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._classes: dict[str, type[T]] = {}

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Class decorator that files a class.

        Parameters
        ----------
        name
            Public name of the class.

        Returns
        -------
        The decorator; it returns the class unchanged.

        Raises
        ------
        ValueError
            If the name is taken.
        """

        def decorate(cls: type[T]) -> type[T]:
            if name in self._classes:
                raise ValueError(f"The {self.kind} name {name!r} is taken by {self._classes[name].__name__}.")
            self._classes[name] = cls
            return cls

        return decorate

    def __getitem__(self, name: str) -> type[T]:
        try:
            return self._classes[name]
        except KeyError:
            raise UnknownNameError(
                f"Unknown {self.kind} {name!r}. Known names: {', '.join(sorted(self._classes))}."
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __len__(self) -> int:
        return len(self._classes)
