"""The real service on a port of loopback, both clients by one name, and a server that does as it is told."""

import asyncio
import hashlib
import http.server
import threading

import pytest
from werkzeug.serving import WSGIRequestHandler, make_server

from detector import Detector, ModelStore
from detector.reading import Reading
from residual_client import AsyncClient, Client
from service.settings import Settings
from service.wsgi.app import EXTENSION, create_app
from tests.model_folder import CLASSIFIER, LATENT_INT8, MIXED, publish_model

KEY = "sesame"
KEY_SHA256 = hashlib.sha256(KEY.encode()).hexdigest()


class KeepAlive(WSGIRequestHandler):
    """Werkzeug's own, with connections that stay open, and no log."""

    protocol_version = "HTTP/1.1"

    def log(self, *arguments):
        """Log nothing."""


@pytest.fixture(scope="package")
def store(tmp_path_factory):
    """`tiny`: 8-bit latents, classes; `images`, `photos` of any size, `mixed`, windows of `pulse`."""
    store = ModelStore(tmp_path_factory.mktemp("client") / "models")
    publish_model(store, "tiny", latent_int8=LATENT_INT8, classifier=CLASSIFIER)
    publish_model(store, "tiny")
    store.set_label("tiny", "stable", 1)
    store.set_label("tiny", "canary", 2)
    publish_model(store, "images", sample_shape=(4, 5))
    publish_model(store, "photos", sample_shape=(4, 5, 3), reading=Reading(resize=(4, 5)))
    publish_model(store, "mixed", **MIXED)
    publish_model(store, "pulse", sample_shape=(4, 1), kind="sequence")
    publish_model(store, "gaps", sample_shape=(4, 2), kind="sequence", missing="gaps")
    return store


@pytest.fixture(scope="package")
def detectors(store):
    """The same models in this process, by name."""
    return {name: Detector.load(store.folder(name, 1)) for name in store.names()}


def serve(store, **variables):
    """Run the service in a thread; return the server and a function that ends it."""
    environ = {"RESIDUAL_STORE": str(store.root), "RESIDUAL_DEFAULT_MODEL": "tiny", **variables}
    app = create_app(Settings.from_environ(environ))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=KeepAlive)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()

    def stop():
        server.shutdown()
        thread.join()
        server.server_close()
        app.extensions[EXTENSION].models.stop()

    return f"http://127.0.0.1:{server.server_port}", stop


@pytest.fixture(scope="package")
def url(store):
    """The service, open to all."""
    url, stop = serve(store)
    yield url
    stop()


@pytest.fixture(scope="package")
def narrow_url(store):
    """Serve with an API key and small limits."""
    url, stop = serve(
        store,
        RESIDUAL_API_KEYS_SHA256=KEY_SHA256,
        RESIDUAL_MAX_BODY_BYTES="4000",
        RESIDUAL_MAX_ROWS="50",
    )
    yield url
    stop()


class Awaited:
    """An `AsyncClient` whose methods are called like those of a `Client`, without await."""

    def __init__(self, *arguments, **options):
        self._loop = asyncio.new_event_loop()
        self._client = AsyncClient(*arguments, **options)

    def __getattr__(self, name):
        method = getattr(self._client, name)
        return lambda *arguments, **options: self._loop.run_until_complete(method(*arguments, **options))

    def end(self):
        """Close the connections and the loop."""
        self._loop.run_until_complete(self._client.close())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


@pytest.fixture(params=["sync", "async"])
def connect(request):
    """Makes clients of one of the two kinds."""
    made = []

    def make(*arguments, **options):
        made.append((Client if request.param == "sync" else Awaited)(*arguments, **options))
        return made[-1]

    yield make
    for client in made:
        client.close() if isinstance(client, Client) else client.end()


@pytest.fixture
def client(connect, url):
    """A client of the default model."""
    return connect(url)


class Script(http.server.ThreadingHTTPServer):
    """A server that gives its answers in order: (status, headers, content), or None to hang up.

    Attributes
    ----------
    asked : list of (path, headers)
    """

    daemon_threads = True

    def __init__(self, answers):
        super().__init__(("127.0.0.1", 0), _ScriptHandler)
        self.answers, self.asked = list(answers), []

    @property
    def url(self):
        """The address of the server."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _ScriptHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        """The next answer."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.path, self.headers))
        answer = self.server.answers.pop(0)
        if answer is None:
            self.close_connection = True
            return
        status, headers, content = answer
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST  # noqa: N815 - http.server's name

    def log_message(self, *arguments):
        """Log nothing."""


@pytest.fixture
def script():
    """Makes servers that follow a script."""
    servers = []

    def make(*answers):
        server = Script(answers)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return server

    yield make
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()
