"""FastAPI as its documents show it: models of pydantic in and out, a plain function in the thread pool."""

import numpy as np
import scoring
from fastapi import FastAPI
from pydantic import BaseModel

# As deep as the samples are: of features, or of rows of pixels.
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
    """JSON in and out."""
    scores = scoring.run(session, np.array(request.instances, np.float32))
    return Answer(score=scores.tolist(), is_anomaly=(scores > scoring.THRESHOLD).tolist())
