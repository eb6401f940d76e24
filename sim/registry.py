"""Names to things: a module dropped into a folder registers itself, nothing else is edited."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from sim.errors import UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """Finds every module of `package` on first use; each calls `add` for what it offers."""

    def __init__(self, what: str, package: str) -> None:
        self._what = what
        self._package = package
        self._found: dict[str, T] = {}
        self._loaded = False

    def add(self, name: str) -> Callable[[T], T]:
        def decorate(thing: T) -> T:
            self._found[name] = thing
            return thing

        return decorate

    def _load(self) -> None:
        if not self._loaded:
            self._loaded = True
            package = importlib.import_module(self._package)
            for module in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{self._package}.{module.name}")

    def __getitem__(self, name: str) -> T:
        self._load()
        if name not in self._found:
            raise UnknownName(self._what, name, self._found)
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._found))
