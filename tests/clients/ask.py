"""Query this service with the clients of other servers; runs in its own environment.

Usage: ask.py URL SAMPLES.npz. The file holds `samples`, images of the model digits, and the PNG files
`images`; the answer, on stdout, is a JSON object of scores by the kind of request.
"""

import asyncio
import json
import sys
from urllib.parse import urlsplit

import numpy as np
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from tritonclient.utils import InferenceServerException

MODEL = "digits"


def triton_input(samples, datatype="FP32", binary=True):
    """Return the input tensor for tritonclient."""
    given = triton.InferInput("samples", list(samples.shape), datatype)
    given.set_data_from_numpy(samples, binary_data=binary)
    return given


def ask_triton(url, samples, images):
    """Return scores by tritonclient over HTTP, for JSON and binary requests and answers."""
    client = triton.InferenceServerClient(urlsplit(url).netloc)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, "1")
    assert not client.is_model_ready("none")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    metadata = client.get_model_metadata(MODEL)
    assert metadata["inputs"] == [{"name": "samples", "datatype": "FP32", "shape": [-1, 8, 8]}]
    assert {
        "name": MODEL,
        "version": "1",
        "state": "READY",
        "reason": "",
    } in client.get_model_repository_index()
    found = {}
    for into in (True, False):
        for out in (True, False):
            result = client.infer(
                MODEL,
                [triton_input(samples, binary=into)],
                request_id="17",
                outputs=[triton.InferRequestedOutput("score", binary_data=out)],
            )
            assert result.get_response()["id"] == "17"
            found[f"triton {'binary' if into else 'json'} to {'binary' if out else 'json'}"] = result
    found["triton version"] = client.infer(MODEL, [triton_input(samples)], model_version="1")
    found["triton gzip"] = client.infer(
        MODEL, [triton_input(samples)], request_compression_algorithm="gzip", priority=1, timeout=1_000_000
    )
    for datatype, form in (("FP16", "f2"), ("UINT8", "u1"), ("INT64", "i8"), ("FP64", "f8")):
        found[f"triton {datatype}"] = client.infer(MODEL, [triton_input(samples.astype(form), datatype)])
    given = triton.InferInput("samples", [len(images)], "BYTES")
    given.set_data_from_numpy(np.array(images, dtype=object))
    found["triton images"] = client.infer(MODEL, [given])
    everything = found["triton version"]
    for tensor in metadata["outputs"]:
        array = everything.as_numpy(tensor["name"])
        assert list(array.shape) == [len(samples), *tensor["shape"][1:]], tensor
    ratio, is_anomaly = everything.as_numpy("ratio"), everything.as_numpy("is_anomaly")
    assert ((ratio > 1) == is_anomaly).all()
    (statistics,) = client.get_inference_statistics(MODEL)["model_stats"]
    assert statistics["inference_stats"]["success"]["count"] >= len(found)
    check_refusals(client, samples)
    return {way: result.as_numpy("score").tolist() for way, result in found.items()}


def check_refusals(client, samples):
    """Check that the sentence of a refusal reaches the caller."""
    for attempt, words in (
        (lambda: client.infer(MODEL, [triton_input(samples[:, :4])]), "must be [n, 8, 8]"),
        (lambda: client.infer("none", [triton_input(samples)]), "there is no model 'none'"),
        (lambda: client.load_model(MODEL), "by changing the store"),
        (lambda: client.infer(MODEL, [triton_input(samples)], parameters={"alfa": 1}), "'alfa' is unknown"),
    ):
        assert words in refusal(attempt)


def refusal(attempt):
    """Return the sentence of the client's exception, empty if there is none."""
    try:
        attempt()
    except InferenceServerException as error:
        return error.message()
    return ""


async def ask_triton_async(url, samples):
    """Return scores by the asynchronous client, which sends bodies as octet-stream."""
    async with triton_aio.InferenceServerClient(urlsplit(url).netloc) as client:
        results = await asyncio.gather(
            *(client.infer(MODEL, [triton_input(samples, binary=binary)]) for binary in (True, False))
        )
    return {
        f"triton aio {number}": result.as_numpy("score").tolist() for number, result in enumerate(results)
    }


def kserve_request(samples, binary, outputs):
    """Return an `InferRequest` with its data in JSON or as binary data after it."""
    given = InferInput("samples", list(samples.shape), "FP32")
    given.set_data_from_numpy(samples, binary_data=binary)
    parameters = {"binary_data_output": True} if outputs else None
    return InferRequest(MODEL, [given], parameters=parameters, request_outputs=[RequestedOutput("score")])


async def ask_kserve(url, samples):
    """Return scores by KServe's client, for V2 in JSON and binary, and for V1."""
    found = {}
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        assert await client.is_server_ready(url)
        assert await client.is_server_live(url)
        assert await client.is_model_ready(url, MODEL)
        assert not await client.is_model_ready(url, "none")
        for into in (True, False):
            for out in (True, False):
                answer = await client.infer(url, kserve_request(samples, into, out), model_name=MODEL)
                way = f"kserve {'binary' if into else 'json'} to {'binary' if out else 'json'}"
                found[way] = answer.outputs[0].as_numpy().tolist()
    async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
        assert await client.is_model_ready(url, MODEL)
        answer = await client.infer(url, {"instances": samples.tolist()}, model_name=MODEL)
        found["kserve v1"] = [prediction["score"] for prediction in answer["predictions"]]
    return found


def main():
    """Ask in every way."""
    url, path = sys.argv[1:]
    with np.load(path) as arrays:
        samples, images = arrays["samples"], [bytes(image) for image in arrays["images"]]
    found = ask_triton(url, samples, images)
    found |= asyncio.run(ask_triton_async(url, samples)) | asyncio.run(ask_kserve(url, samples))
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
