"""Score a row with the client that openapi-generator made; runs in an environment with its requirements.

Usage: score_generated.py FOLDER URL KEY, where the folder has the package `residual_api`. The answer, on
stdout, is a JSON object of scores by the kind of request, and the place in a refused one.
"""

import json
import sys

folder, url, key = sys.argv[1:]
sys.path.insert(0, folder)

import residual_api as api  # noqa: E402 - made a moment ago

ROW = [[1, 2, 30]]


def refusal(scoring):
    """Return the place that the problem of a row with a text names; None if it is not refused."""
    try:
        scoring.score({"instances": [[1, 2, "x"]]})
    except api.ApiException as error:
        return [error.data.type, error.data.errors[0].pointer]
    return None


configuration = api.Configuration(host=url, api_key={"key": key})
with api.ApiClient(configuration) as client:
    scoring, v1, v2 = api.ScoringApi(client), api.V1Api(client), api.V2Api(client)
    explained = scoring.score_model("tiny", api.ScoreRequest(instances=ROW, explain=1))
    column = v1.predict_model("tiny", api.PredictRequest(inputs=ROW)).outputs
    tensor = api.InferInput(name="samples", shape=[1, 3], datatype="FP32", data=ROW)
    inferred = v2.infer_model("tiny", api.InferRequest(inputs=[tensor]))
    named = scoring.score({"instances": [{"a": 1, "b": 2, "c": 30}]}, alpha=0.2)
    found = {
        "score": scoring.score(api.ScoreRequest(instances=ROW)).score,
        "names": named.score,
        "explanation": [explained.explanation.actual_instance[0][0].contribution * 300],
        "predict": [v1.predict_model("tiny", api.PredictRequest(instances=ROW)).predictions[0].score],
        "column": column.score,
        "explain": [v1.explain_model("tiny", {"instances": ROW}).predictions[0].score],
        "infer": [output.data[0] for output in inferred.outputs if output.name == "score"],
    }
    assert api.ModelsApi(client).get_version("tiny", 1).sample_shape == [3]
    assert v2.get_model_config("tiny").max_batch_size > 0
    found["problem"] = refusal(scoring)
json.dump(found, sys.stdout)
