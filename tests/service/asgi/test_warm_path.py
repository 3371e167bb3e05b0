"""The number of functions and modules that a reader of a warm request has to follow."""

import asyncio
import json
import sys
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest

from service.watching.pending import WRITE_SECONDS
from tests.model_folder import publish_model
from tests.raw_http import request
from tests.service.asgi.test_known_heads import JSON, Client, talk
from tests.service.polls import follow

ROOT = Path(__file__).parents[3]
OURS = (str(ROOT / "service"), str(ROOT / "detector"))


class PythonCall(NamedTuple):
    """One call of a function of ours."""

    module: str
    function: str
    depth: int


class CallRecorder:
    """Records the Python calls between entering and leaving.

    Comprehensions are not counted: from Python 3.12 on they are not calls (PEP 709).
    """

    def __init__(self) -> None:
        self.calls: list[PythonCall] = []

    def __enter__(self) -> "CallRecorder":
        sys.setprofile(self._note)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(OURS) and not code.co_name.endswith("comp>"):
            depth, outer = 0, frame
            while outer:
                depth += outer.f_code.co_filename.startswith(OURS)
                outer = outer.f_back
            self.calls.append(PythonCall(code.co_filename, f"{code.co_name}:{code.co_firstlineno}", depth))

    def summary(self) -> dict[str, int]:
        """Return the numbers of calls, functions and modules, and the largest depth."""
        return {
            "calls": len(self.calls),
            "functions": len({call[:2] for call in self.calls}),
            "modules": len({call.module for call in self.calls}),
            "depth": max(call.depth for call in self.calls),
        }


@pytest.mark.parametrize("n_values", [3, 784])
def test_warm_request_can_be_followed(front, store, n_values):
    """At most 70 calls in 16 modules lead from the bytes of the request to the answer, counted and logged."""
    publish_model(store, "wide", sample_shape=(784,), feature_names=None)
    follow(front.serving.models)
    body = json.dumps({"instances": [[0.123] * n_values]}).encode()
    path = "/score" if n_values == 3 else "/models/wide/score"
    sent, recorder = request(path, body, headers=[JSON]), CallRecorder()

    async def conversation(client: Client) -> None:
        for _ in range(3):
            assert (await client.ask(sent)).status == 200
            await asyncio.sleep(2 * WRITE_SECONDS)
        with recorder:
            assert (await client.ask(sent)).status == 200
            await asyncio.sleep(2 * WRITE_SECONDS)

    talk(front, conversation)

    summary = recorder.summary()
    sys.stdout.write(f"{n_values} values: {summary}\n")
    assert any(call.function.startswith("observe_requests") for call in recorder.calls)
    assert summary["calls"] <= 70
    assert summary["modules"] <= 16
    assert summary["depth"] <= 13
