"""uvicorn's protocol with one extension: an application may close a connection without waiting for it."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.sse import ABORT


class Aborting(HttpToolsProtocol):
    """Gives each request what closes its connection at once, with all that is yet to be sent."""

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope["extensions"] = {ABORT: {"call": self.transport.abort}}
