"""A PyBullet client: an object whose calls go to a physics server of its own.

No other module imports PyBullet, so code that does not simulate does not load it.
"""

import contextlib
import ctypes
import functools
import os
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from sim.utils.errors import GroundError


@contextlib.contextmanager
def _mute_stderr() -> Iterator[None]:
    """Redirect the file descriptor: PyBullet's C code prints its build time past `sys.stderr`."""
    saved = os.dup(2)
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)


with _mute_stderr():
    import pybullet


CONTACT_BREAKING_THRESHOLD = 0.02  # Bullet's own
COLLIDING_FUNCTIONS = ("step", "reset", "perform", "getClosest")  # beginnings of the names of functions that find contacts
_current_threshold = [CONTACT_BREAKING_THRESHOLD]  # in force in this process


def _disconnect(client_id: int) -> None:
    if pybullet.isConnected(client_id):
        pybullet.disconnect(client_id)


def _check_display() -> None:
    """Check that an X server answers: without one, Bullet would end the process.

    Raises:
        GroundError: none does.
    """
    if sys.platform != "linux":
        return
    name = os.environ.get("DISPLAY")
    try:
        x11 = ctypes.CDLL("libX11.so.6")
    except OSError:
        x11 = None
    if x11 is not None and name:
        x11.XOpenDisplay.restype = ctypes.c_void_p
        display = x11.XOpenDisplay(None)
        if display:
            x11.XCloseDisplay(ctypes.c_void_p(display))
            return
    state = "libX11.so.6 is missing" if x11 is None else f"no display answers at DISPLAY={name}" if name else "DISPLAY is not set"
    raise GroundError(
        f'render_mode="human" needs an X display, and {state}: '
        'use render_mode="rgb_array", or `ground view`, which shows the simulation in a browser'
    )


class BulletClient:
    """A connection to a physics server of its own.

    Attributes are PyBullet's functions, bound to this connection, and PyBullet's constants.
    `close` disconnects, and so does the garbage collector.

    Attributes:
        contact_breaking_threshold: share of a body's size by which a contact may shift in a step.
    """

    contact_breaking_threshold = CONTACT_BREAKING_THRESHOLD

    def __init__(self, gui: bool = False) -> None:
        """Connect.

        Args:
            gui: open Bullet's own window.

        Raises:
            GroundError: there is no display for a window.
            RuntimeError: Bullet refused the connection.
        """
        if gui:
            _check_display()
        self.id = pybullet.connect(pybullet.GUI if gui else pybullet.DIRECT)
        if self.id < 0:
            raise RuntimeError("Bullet refused the connection")
        self.close = weakref.finalize(self, _disconnect, self.id)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(pybullet, name)
        if callable(value):
            value = functools.partial(value, physicsClientId=self.id)
            if name.startswith(COLLIDING_FUNCTIONS):
                value = functools.partial(self._call_with_own_threshold, value)
        setattr(self, name, value)  # so that __getattr__ runs once per name
        return value

    def _call_with_own_threshold(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a function that may find contacts, with the client's own contact breaking threshold.

        Bullet has one threshold for all servers of a process, which `resetSimulation` keeps.
        """
        if _current_threshold[0] != self.contact_breaking_threshold:
            pybullet.setPhysicsEngineParameter(contactBreakingThreshold=self.contact_breaking_threshold, physicsClientId=self.id)
            _current_threshold[0] = self.contact_breaking_threshold
        return function(*args, **options)
