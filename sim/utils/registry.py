"""Names to things: a module dropped into a folder registers itself, nothing else is edited."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from sim.utils.errors import UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """Names of things, each added by the module that defines it.

    On first use every module of the packages is imported; of a package that is found among them, its module `scene`.
    """

    def __init__(self, what: str, *packages: str) -> None:
        self._what = what
        self._packages = packages
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
            for package in self._packages:
                for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
                    inner = f".{self._what}" if module.ispkg else ""
                    importlib.import_module(f"{package}.{module.name}{inner}")

    def __getitem__(self, name: str) -> T:
        self._load()
        if name not in self._found:
            raise UnknownName(self._what, name, self._found)
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._found))
