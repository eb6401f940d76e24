"""Actions of buttons: one at a time, with errors shown on the page."""

from collections.abc import Callable
from typing import Any

import viser

from experiments.viewer.replay.session import ViewerSession


def run_action(session: ViewerSession, client: viser.ClientHandle | None, action: Callable[[], Any]) -> None:
    """Run an action of a user; an error is shown on the page, and to its client."""
    try:
        with session.acquire_action_lock():
            action()
    except Exception as error:
        text = session.report_error(error)
        if client is not None:
            client.add_notification("That did not work", text, color="red", auto_close_seconds=10)


def connect_button(session: ViewerSession, handle: Any, action: Callable[[], Any]) -> None:
    """Run an action whenever a button is pressed."""
    handle.on_click(lambda event: run_action(session, event.client, action))
