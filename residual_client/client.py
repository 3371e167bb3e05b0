"""`Client` and `AsyncClient`: they send what `calls` asks for, and nothing else."""

import asyncio
import copy
import dataclasses
import math
import re
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import httpx
import numpy as np

from detector.results import Classes, Scores
from residual_client.calls import Calls, Limits, Target
from residual_client.errors import RequestError
from residual_client.retries import Pause, Retries, Steps
from residual_client.wire import Answer, Failure, Request

TIMEOUT_SECONDS = 60.0
CONNECT_SECONDS = 5.0
RETRIES = 4
MAX_BODY_BYTES = 8 * 2**20
MAX_ROWS = 50_000
CONNECTIONS = 8  # of httpx each request costs time that grows with them: 0.9 ms with 8, 2.6 ms with 32

Result = TypeVar("Result")


class _Base:
    """What both clients are told, and how a request becomes one of httpx."""

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
            raise RequestError("api_key must be printable ASCII without blanks")  # and is never shown
        headers = {} if api_key is None else {"authorization": f"Bearer {api_key}"}
        self._calls = Calls(
            Target(model, version, label), headers, Retries(retries), Limits(max_body_bytes, max_rows)
        )
        self._timeout = httpx.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS), pool=None)
        self._owned = http is None
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = self._make_http(limits=limits) if http is None else http

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
        return Failure(f"the service at {self._url} broke off: {error}", error, is_passing)


class Client(_Base):
    """A service, asked from ordinary code; safe to use from several threads.

    Parameters
    ----------
    url : str
        Where the service is, `http://127.0.0.1:8000`; a path is put before every path.
    api_key : str, optional
    model : str, optional
        The service's default model where not given.
    version : int, optional
    label : str, optional
        One of the two: else the model's own choice, label `stable` or the highest version.
    timeout : float
        Seconds for the answer to one request.
    retries : int
        At most so many repetitions of a request: after 429, 502, 503 and lost connections, not after other
        errors and not after a timeout.
    max_body_bytes, max_rows : int
        Larger samples are sent in several requests, in order; a series of a sequence model never is.
    connections : int
        At most so many at a time, kept open; more requests of threads or coroutines wait for one.
    http : httpx.Client or httpx.AsyncClient, optional
        One of the caller's own, for certificates or proxies; it stays open.

    Raises
    ------
    RequestError
        If these contradict each other.
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
            Raw units: an array of shape (n_samples, *sample_shape), or what the service takes as JSON; a data
            frame of pandas or Polars, an Arrow table or a mapping of columns, matched by name in any order;
            or a list of PNG and JPEG files, each a Path or bytes. For a sequence model windows or one series.
        alpha : float, optional
            Another false-alarm rate than the model's own, in (0, 1).
        fdr : float, optional
            False-discovery rate of a Benjamini-Hochberg selection over all samples of this call.
        explain : int or "map", optional
            How many features to name for each sample, or the whole error map.

        Returns
        -------
        Scores, or pandas.DataFrame
            For a data frame of pandas one with its index; the rule stands in its `attrs`.

        Raises
        ------
        Problem
            What the service said instead; rows are counted in `samples`.
        NoAnswer
            If it said nothing, retries included.
        RequestError
            If this cannot be sent.
        """
        return self._run(self._calls.score(samples, alpha, fdr, explain))

    def denoise(self, samples: Any) -> np.ndarray | list | Any:
        """What the model expected to see instead: raw units, float32, shape of `samples`.

        A data frame of pandas for one, with its index and columns; a list of rows where they hold words.
        Raises as `score`.
        """
        return self._run(self._calls.denoise(samples))

    def encode(self, samples: Any, *, dtype: str = "float32") -> np.ndarray:
        """Latent vectors, shape (n_samples, *latent_shape), in dtype `float32`, `float16` or `int8`.

        Of a series they are those of its windows. Raises as `score`.
        """
        return self._run(self._calls.encode(samples, dtype))

    def decode(self, latent: Any, *, dtype: str = "float32") -> np.ndarray:
        """Reconstructions of latent vectors of a dtype: raw units, float32. Raises as `score`."""
        return self._run(self._calls.decode(latent, dtype))

    def classify(self, samples: Any) -> Classes | Any:
        """The class of each sample, of a series each of its windows, and the probability of every class.

        A data frame of pandas for one. Raises as `score`.
        """
        return self._run(self._calls.classify(samples))

    def manifest(self) -> dict[str, Any]:
        """The manifest of the version that answers now: kind, sample shape, feature names, threshold ..."""
        return self._run(self._calls.manifest())[1]

    def pin(self) -> Self:
        """A client of exactly the version that answers now, whatever is published or labelled meanwhile.

        It uses the connections of this one, which must stay open.
        """
        return self._pinned(self._run(self._calls.manifest())[0])

    def models(self) -> list[dict[str, Any]]:
        """Every model of the store, as `GET /models` lists it: labels, versions, what was refused and why."""
        return self._run(self._calls.models())

    def ready(self) -> bool:
        """Whether the service answers and is ready: one look, without retries."""
        return self._run(self._calls.ready())

    def _run(self, steps: Steps[Result]) -> Result:
        answer = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                return end.value
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
    """A service, asked from coroutines; parameters, methods and results as of `Client`, to be awaited."""

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

    async def denoise(self, samples: Any) -> np.ndarray | list | Any:
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
        answer = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                return end.value
            answer = await self._perform(step)

    async def _perform(self, step: Request | Pause) -> Answer | Failure | None:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        try:
            async with self._places:  # in the pool of httpx who waits costs every other request time
                return _answer(await self._http.request(**self._built(step)))
        except httpx.RequestError as error:
            return self._failure(error)


def _answer(response: httpx.Response) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Answer(response.status_code, headers, response.content, response.reason_phrase)


def _checked_url(url: str) -> str:
    """The address without its last slash.

    Raises
    ------
    RequestError
        If it is not one of HTTP.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError) as error:
        raise RequestError(f"the URL must be like http://127.0.0.1:8000, got {url!r}: {error}") from error
    if parsed.userinfo:
        raise RequestError("the URL must hold no user and no password; a key is given as api_key")
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query or parsed.fragment:
        raise RequestError(f"the URL must be like http://127.0.0.1:8000, got {url!r}")
    return str(parsed).rstrip("/")
