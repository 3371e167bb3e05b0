"""`Client` and `AsyncClient`: send the requests that `calls` yields, and nothing else."""

import asyncio
import copy
import dataclasses
import math
import re
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, ClassVar, Literal, Self, TypeVar, cast

import httpx
import numpy as np

from detector.results import Classes, Scores
from residual_client.calls import Calls, RequestLimits, Target
from residual_client.errors import RequestError
from residual_client.retries import Pause, Retries, Steps
from residual_client.wire import Answer, Failure, Request

TIMEOUT_SECONDS = 60.0
CONNECT_SECONDS = 5.0
RETRIES = 4
MAX_BODY_BYTES = 8 * 2**20
MAX_ROWS = 50_000
CONNECTIONS = 8  # a request of httpx takes longer with more of them: 0.9 ms with 8, 2.6 ms with 32

Result = TypeVar("Result")


class _Base:
    """The options of both clients, and the conversion of a request to httpx."""

    _make_http: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        model: str | None = None,
        version: int | None = None,
        label: str | None = None,
        timeout: float = TIMEOUT_SECONDS,
        retries: int = RETRIES,
        max_body_bytes: int = MAX_BODY_BYTES,
        max_rows: int = MAX_ROWS,
        connections: int = CONNECTIONS,
        http: Any = None,
    ) -> None:
        self._url = _checked_url(url)
        for name, value, least in (
            ("retries", retries, 0),
            ("max_body_bytes", max_body_bytes, 1),
            ("max_rows", max_rows, 1),
            ("connections", connections, 1),
        ):
            if not isinstance(value, int) or value < least:
                raise RequestError(f"{name} must be an integer of at least {least}, got {value!r}")
        if not isinstance(timeout, int | float) or not 0 < timeout < math.inf:
            raise RequestError(f"timeout must be a positive number of seconds, got {timeout!r}")
        if api_key is not None and not re.fullmatch("[!-~]+", api_key):
            raise RequestError("api_key must be printable ASCII without spaces")  # the key is never shown
        headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
        self._calls = Calls(
            Target(model, version, label), headers, Retries(retries), RequestLimits(max_body_bytes, max_rows)
        )
        self._timeout = httpx.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS), pool=None)
        self._owned = http is None
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http: Any = self._make_http(limits=limits) if http is None else http

    def __repr__(self) -> str:
        target = self._calls.target
        given = {"model": target.name, "version": target.version, "label": target.label}
        words = "".join(f", {name}={value!r}" for name, value in given.items() if value is not None)
        return f"{type(self).__name__}({self._url!r}{words})"

    def _pinned(self, target: Target) -> Self:
        pinned = copy.copy(self)
        pinned._calls = dataclasses.replace(self._calls, target=target)
        pinned._owned = False
        return pinned

    def _built(self, request: Request) -> Mapping[str, Any]:
        return {
            "method": request.method,
            "url": self._url + request.path,
            "params": request.params or None,
            "headers": request.headers,
            "content": request.content or None,
            "timeout": self._timeout,
        }

    def _failure(self, error: Exception) -> Failure:
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            return Failure(f"the service at {self._url} cannot be reached: {error}", error, is_passing=True)
        if isinstance(error, httpx.TimeoutException):
            seconds = self._timeout.read
            sentence = f"the service at {self._url} did not answer within {seconds:g} s"
            return Failure(sentence, error, is_passing=False)
        is_passing = isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError)
        return Failure(f"the connection to the service at {self._url} failed: {error}", error, is_passing)


class Client(_Base):
    """A client of one service. Safe to use from several threads at once.

    Parameters
    ----------
    url : str
        Address of the service, such as `http://127.0.0.1:8000`; may have a path, the prefix of all others.
    api_key : str, optional
    model : str, optional
        The service's default model if not given.
    version : int, optional
    label : str, optional
        At most one of the two; without them the label `stable`, or else the highest version.
    timeout : float
        Seconds to wait for the answer to one request.
    retries : int
        At most this many repetitions of a request, after 429, 502, 503 and lost connections; not after other
        errors or a timeout.
    max_body_bytes, max_rows : int
        Larger samples are sent in several requests, in order, except a series for a sequence model.
    connections : int
        At most this many connections, kept open; further requests of threads or coroutines wait for one.
    http : httpx.Client or httpx.AsyncClient, optional
        The caller's own, for certificates or proxies; it is not closed.

    Raises
    ------
    RequestError
        If an option is out of range, or two contradict each other.
    """

    _make_http = httpx.Client

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if self._owned:
            self._http.close()

    def score(
        self,
        samples: Any,
        *,
        alpha: float | None = None,
        fdr: float | None = None,
        explain: int | Literal["map"] | None = None,
    ) -> Scores | Any:
        """Score samples and decide which are anomalies.

        Parameters
        ----------
        samples : array, data frame or images
            Raw units: an array of shape (n_samples, *sample_shape), or nested lists or objects as in a JSON
            request; a data frame of pandas or Polars, an Arrow table or a mapping of columns, matched by name
            in any order; or a list of PNG and JPEG files, each a Path or bytes. For a sequence model windows
            or one series.
        alpha : float, optional
            False-alarm rate to use instead of the model's own, in (0, 1).
        fdr : float, optional
            False-discovery rate of a Benjamini-Hochberg selection over all samples of this call.
        explain : int or "map", optional
            How many features to name for each sample, or the whole error map.

        Returns
        -------
        Scores, or pandas.DataFrame
            A pandas data frame is answered by one with the same index; its `attrs` hold the rule.

        Raises
        ------
        Problem
            If the service answers with an error; its rows are counted in `samples`.
        NoAnswer
            If there is no answer, after all retries.
        RequestError
            If the samples or options cannot be sent.
        """
        return self._run(self._calls.score(samples, alpha, fdr, explain))

    def denoise(self, samples: Any) -> np.ndarray | list[Any] | Any:
        """Return what the model expected to see instead: raw units, float32, shape of `samples`.

        Rows that hold texts are a list. A pandas data frame is answered by one with the same index and
        columns. Raises as `score`.
        """
        return self._run(self._calls.denoise(samples))

    def encode(self, samples: Any, *, dtype: str = "float32") -> np.ndarray:
        """Return latent vectors, shape (n_samples, *latent_shape), of dtype `float32`, `float16` or `int8`.

        For a series these are the latent vectors of its windows. Raises as `score`.
        """
        return self._run(self._calls.encode(samples, dtype))

    def decode(self, latent: Any, *, dtype: str = "float32") -> np.ndarray:
        """Decode latent vectors of a dtype to raw units, float32. Raises as `score`."""
        return self._run(self._calls.decode(latent, dtype))

    def classify(self, samples: Any) -> Classes | Any:
        """Return the class of each sample, or each window of a series, and the probability of every class.

        A pandas data frame is answered by one. Raises as `score`.
        """
        return self._run(self._calls.classify(samples))

    def manifest(self) -> dict[str, Any]:
        """Return the manifest of the version that answers now: kind, sample shape, feature names ..."""
        return self._run(self._calls.manifest())[1]

    def pin(self) -> Self:
        """Return a client of exactly the version that answers now, whatever is published or labelled later.

        It uses the connections of this client, which must stay open.
        """
        return self._pinned(self._run(self._calls.manifest())[0])

    def models(self) -> list[dict[str, Any]]:
        """List the models as `GET /models` does: labels, versions, which versions were refused and why."""
        return self._run(self._calls.models())

    def ready(self) -> bool:
        """Whether the service answers and is ready, by one request without retries."""
        return self._run(self._calls.ready())

    def _run(self, steps: Steps[Result]) -> Result:
        answer: Answer | Failure | None = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                return cast(Result, end.value)
            answer = self._perform(step)

    def _perform(self, step: Request | Pause) -> Answer | Failure | None:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        try:
            return _answer(self._http.request(**self._built(step)))
        except httpx.RequestError as error:
            return self._failure(error)


class AsyncClient(_Base):
    """`Client` for coroutines: the same parameters, methods and results, to be awaited."""

    _make_http = httpx.AsyncClient

    def __init__(self, url: str, *, connections: int = CONNECTIONS, **options: Any) -> None:
        super().__init__(url, connections=connections, **options)
        self._places = asyncio.Semaphore(connections)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._owned:
            await self._http.aclose()

    async def score(
        self,
        samples: Any,
        *,
        alpha: float | None = None,
        fdr: float | None = None,
        explain: int | Literal["map"] | None = None,
    ) -> Scores | Any:
        """As `Client.score`."""
        return await self._run(self._calls.score(samples, alpha, fdr, explain))

    async def denoise(self, samples: Any) -> np.ndarray | list[Any] | Any:
        """As `Client.denoise`."""
        return await self._run(self._calls.denoise(samples))

    async def encode(self, samples: Any, *, dtype: str = "float32") -> np.ndarray:
        """As `Client.encode`."""
        return await self._run(self._calls.encode(samples, dtype))

    async def decode(self, latent: Any, *, dtype: str = "float32") -> np.ndarray:
        """As `Client.decode`."""
        return await self._run(self._calls.decode(latent, dtype))

    async def classify(self, samples: Any) -> Classes | Any:
        """As `Client.classify`."""
        return await self._run(self._calls.classify(samples))

    async def manifest(self) -> dict[str, Any]:
        """As `Client.manifest`."""
        return (await self._run(self._calls.manifest()))[1]

    async def pin(self) -> Self:
        """As `Client.pin`."""
        return self._pinned((await self._run(self._calls.manifest()))[0])

    async def models(self) -> list[dict[str, Any]]:
        """As `Client.models`."""
        return await self._run(self._calls.models())

    async def ready(self) -> bool:
        """As `Client.ready`."""
        return await self._run(self._calls.ready())

    async def _run(self, steps: Steps[Result]) -> Result:
        answer: Answer | Failure | None = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                return cast(Result, end.value)
            answer = await self._perform(step)

    async def _perform(self, step: Request | Pause) -> Answer | Failure | None:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        try:
            async with self._places:  # a request that waits in httpx's own pool slows down all others
                return _answer(await self._http.request(**self._built(step)))
        except httpx.RequestError as error:
            return self._failure(error)


def _answer(response: httpx.Response) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, response.content, response.reason_phrase)


def _checked_url(url: str) -> str:
    """Return the URL without its last slash; raise `RequestError` if it is not an HTTP address."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise RequestError(f"the URL must be like http://127.0.0.1:8000, got {url!r}: {error}") from error
    if parsed.userinfo:
        raise RequestError("the URL must not have a user or a password; give a key as api_key")
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query or parsed.fragment:
        raise RequestError(f"the URL must be like http://127.0.0.1:8000, got {url!r}")
    return str(parsed).rstrip("/")
