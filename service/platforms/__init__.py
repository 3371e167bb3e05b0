"""The protocols of other servers: Open Inference Protocol V2, and V1 of KServe and TensorFlow Serving."""
