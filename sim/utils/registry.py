"""Registry of named items. A module that is added to a package registers its item by itself."""

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from sim.utils.errors import UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """Items by name; the module that defines an item adds it.

    The first lookup imports all modules of the packages. Of a subpackage it imports the module
    that has the name of the registry's `kind`, for example `scene`, if there is one.
    """

    def __init__(self, kind: str, *packages: str) -> None:
        self._kind = kind
        self._packages = packages
        self._items: dict[str, T] = {}
        self._is_loaded = False

    def add(self, name: str) -> Callable[[T], T]:
        """Make a decorator that registers an item under a name."""

        def decorate(item: T) -> T:
            self._items[name] = item
            return item

        return decorate

    def _load(self) -> None:
        if not self._is_loaded:
            self._is_loaded = True
            for package in self._packages:
                for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
                    suffix = f".{self._kind}" if module.ispkg else ""
                    name = f"{package}.{module.name}{suffix}"
                    if importlib.util.find_spec(name):
                        importlib.import_module(name)

    def __getitem__(self, name: str) -> T:
        self._load()
        if name not in self._items:
            raise UnknownName(self._kind, name, self._items)
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._items))
