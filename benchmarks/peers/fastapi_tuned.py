"""FastAPI set up for speed: orjson, no pydantic models, no thread pool."""

import io

import numpy as np
import orjson
import scoring
from fastapi import FastAPI, Request, Response

app = FastAPI()
session = scoring.open_session()


@app.post("/score")
async def score(request: Request) -> Response:
    """Score JSON."""
    return _answer(np.array(orjson.loads(await request.body())["instances"], np.float32))


@app.post("/npy")
async def npy(request: Request) -> Response:
    """Score NumPy's file format."""
    return _answer(np.load(io.BytesIO(await request.body()), allow_pickle=False))


@app.post("/raw")
async def raw(request: Request) -> Response:
    """Score little-endian float32."""
    return _answer(np.frombuffer(await request.body(), np.float32))


def _answer(samples: np.ndarray) -> Response:
    scores = scoring.run(session, samples)
    answer = {"score": scores, "is_anomaly": scores > scoring.THRESHOLD}
    return Response(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")
