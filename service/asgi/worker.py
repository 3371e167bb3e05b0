"""The gunicorn worker of the service: uvicorn's, on uvloop, with our protocol: docs/decisions/0017."""

import logging
import socket
import sys
from typing import Any

from gunicorn.arbiter import Arbiter
from uvicorn.server import Server
from uvicorn_worker import UvicornWorker

from service.asgi.connection import HttpProtocol
from service.watching import stdout


class Worker(UvicornWorker):
    """One process: an event loop for all its connections."""

    CONFIG_KWARGS = {  # noqa: RUF012 - an attribute of the base class
        "http": HttpProtocol,
        "lifespan": "on",
        "proxy_headers": False,
        "server_header": False,
        "ws": "none",
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        logging.getLogger("uvicorn.error").propagate = True  # to the root logger, which writes JSON

    async def _serve(self) -> None:
        """Serve as the base class does, with another `Server`."""
        self.config.app = self.wsgi
        server = EndingServer(self.config)
        self._install_sigquit_handler()
        await server.serve(self.sockets)
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)


class EndingServer(Server):
    """A server whose connections know that it is ending, also those accepted in the last moment."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close each connection when its requests are answered."""
        self.server_state.ending = True
        await super().shutdown()  # the event loop closes the sockets, so they must not be closed again

    async def _serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until the end, and write the rest of the log: the signal is raised again behind this."""
        await super()._serve(sockets)
        stdout.writer.flush()
