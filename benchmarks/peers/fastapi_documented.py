"""FastAPI as its documentation shows it: pydantic models in and out, a plain function in the thread pool."""

import numpy as np
import scoring
from fastapi import FastAPI
from pydantic import BaseModel

# A sample is a list of features, or a list of rows of pixels.
Instances = list[list[float]] if len(scoring.SHAPE) == 2 else list[list[list[float]]]

app = FastAPI()
session = scoring.open_session()


class Request(BaseModel):
    """A batch of samples."""

    instances: Instances


class Answer(BaseModel):
    """One element for each sample."""

    score: list[float]
    is_anomaly: list[bool]


@app.post("/score")
def score(request: Request) -> Answer:
    """Score JSON, answer JSON."""
    scores = scoring.run(session, np.array(request.instances, np.float32))
    return Answer(score=scores.tolist(), is_anomaly=(scores > scoring.THRESHOLD).tolist())
