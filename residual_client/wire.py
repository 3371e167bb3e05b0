"""Requests and answers as values, and the reading of answers. No connection is made here."""

import dataclasses
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from detector.results import Classes, Contribution, Scores
from residual_client.errors import AnswerError, problem_class

JSON = "application/json"
NPY = "application/x-npy"
PROBLEM = "application/problem+json"
REQUEST_ID = "x-request-id"


@dataclasses.dataclass(frozen=True)
class Request:
    """One request.

    `is_resolved` if the client looked up the version in the path, so that another worker may not have it yet.
    """

    method: str
    path: str  # below the service's address
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    content: bytes = b""
    is_resolved: bool = False


@dataclasses.dataclass(frozen=True)
class Answer:
    """One answer; the names of its headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    reason: str = ""

    @property
    def media_type(self) -> str:
        """Media type of the content, without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


@dataclasses.dataclass(frozen=True)
class Failure:
    """The reason why there is no answer."""

    sentence: str
    cause: Exception
    is_passing: bool  # another attempt may succeed


def check(answer: Answer, *, retry_after: float | None = None, first_row: int = 0) -> Answer:
    """Return the answer if it is a success.

    Raises
    ------
    Problem
        If the service, or a proxy before it, answers with an error; rows are counted from `first_row` on.
    AnswerError
        If the answer is neither success nor error.
    """
    if answer.status == 200:
        return answer
    if answer.status < 400:
        location = answer.headers.get("location")
        to = f" to {location[:200]!r}" if location else ""
        raise AnswerError(f"the service must answer 200 or an error, got {answer.status}{to}: check the URL")
    document = _problem_document(answer)
    raise problem_class(answer.status)(
        answer.status,
        document,
        request_id=answer.headers.get(REQUEST_ID),
        retry_after=retry_after,
        first_row=first_row,
    )


def _problem_document(answer: Answer) -> Mapping[str, Any]:
    """Return the members of the problem, or make them up for the error page of a proxy."""
    if answer.media_type == PROBLEM:
        document = _parse(answer)
        if isinstance(document, dict):
            return document
    said = f"{answer.status} {answer.reason}".strip()
    return {"title": answer.reason, "detail": f"the server answered {said}, without the service's own words"}


def read_json(answer: Answer) -> dict[str, Any]:
    """Return the members of a JSON answer; raise `AnswerError` if it is not a JSON object."""
    document = _parse(answer) if answer.media_type == JSON else None
    if not isinstance(document, dict):
        kind = answer.media_type or "nothing"
        raise AnswerError(f"the answer must be a JSON object, got {kind}: check the URL")
    return document


def _parse(answer: Answer) -> Any:
    try:
        return json.loads(answer.content)
    except (ValueError, RecursionError) as error:
        raise AnswerError(f"the answer is not JSON: {error}") from error


def read_array(answer: Answer) -> np.ndarray:
    """Return the array of a `.npy` answer; raise `AnswerError` if it is not one."""
    if answer.media_type != NPY:
        raise AnswerError(f"the answer must be {NPY}, got {answer.media_type or 'nothing'}: check the URL")
    try:
        array: np.ndarray = np.load(io.BytesIO(answer.content), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise AnswerError(f"the answer is not a complete .npy array: {error}") from error
    return array


def read_scores(answer: Answer, *, named: bool) -> Scores:
    """Read the answer of `/score`; with `named` its explanation is contributions, else the error map."""
    document = read_json(answer)
    try:
        selected, explanation = document.get("selected"), document.get("explanation")
        return Scores(
            model=document["model"],
            version=document["version"],
            score=np.array(document["score"], dtype=np.float64),
            ratio=np.array(document["ratio"], dtype=np.float64),
            p_value=np.array(document["p_value"], dtype=np.float64),
            is_anomaly=_decisions(document["is_anomaly"]),
            threshold=document["threshold"],
            alpha=document["alpha"],
            expected_rate=document["expected_rate"],
            selected=None if selected is None else _decisions(selected),
            explanation=None if explanation is None else _read_explanation(explanation, named=named),
        )
    except (LookupError, TypeError, ValueError) as error:
        raise _not_of_verb("score", error) from error


def _decisions(values: list[bool | None]) -> np.ndarray:
    """Return decisions as `Scores` has them: true for null, a step without a score."""
    return np.array([value is not False for value in values])


def _read_explanation(explanation: list[Any], *, named: bool) -> list[list[Contribution]] | np.ndarray:
    if not named:
        return np.array(explanation, dtype=np.float32)
    return [
        [Contribution(**{**part, "index": tuple(part["index"])}) for part in sample] for sample in explanation
    ]


def read_classes(answer: Answer) -> Classes:
    """Read the answer of `/classify`."""
    document = read_json(answer)
    try:
        return Classes(
            model=document["model"],
            version=document["version"],
            label=np.array(document["label"]),
            probability=np.array(document["probability"], dtype=np.float32),
            classes=tuple(document["classes"]),
        )
    except (LookupError, TypeError, ValueError) as error:
        raise _not_of_verb("classify", error) from error


def read_reconstruction(answer: Answer) -> list[Any]:
    """Read the rows of a JSON answer of `/denoise`, which may hold texts."""
    rows = read_json(answer).get("reconstruction")
    if not isinstance(rows, list):
        raise _not_of_verb("denoise", LookupError("reconstruction"))
    return rows


def _not_of_verb(verb: str, error: Exception) -> AnswerError:
    return AnswerError(f"the answer is not one of /{verb}: missing or wrong {error}")
