"""Check the form of answers, and write bodies."""

import io

import numpy as np
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.test import TestResponse

from service.http.problems import TYPES


def assert_problem(response: TestResponse, status: int, type: str) -> dict:  # noqa: A002
    """Check the form of a problem response, and return the problem."""
    assert response.status_code == status, response.text
    assert response.content_type == "application/problem+json"
    problem = response.json
    assert problem["type"] == type
    assert problem["title"] == TYPES[type].title
    assert problem["status"] == status == TYPES[type].status
    assert isinstance(problem["detail"], str)
    assert problem["instance"] == response.headers["X-Request-Id"]
    assert problem.keys() <= {"type", "title", "status", "detail", "instance", "errors", "error"}
    of_platform = response.request.path.startswith(("/v1/", "/v2"))
    assert problem.get("error") == (problem["detail"] if of_platform else None)
    return problem


def to_npy(array: np.ndarray) -> bytes:
    """Return an array as `.npy`."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def from_npy(content: bytes) -> np.ndarray:
    """Return the array of a `.npy`."""
    return np.load(io.BytesIO(content), allow_pickle=False)


def read_metrics(text: str) -> dict[tuple, float]:
    """Return every series of an exposition: (name, label values in the order of their names) to value."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
