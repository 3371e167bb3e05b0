"""Triton's own schema reads a configuration; runs in the environment of the clients.

Usage: read_config.py CONFIG.pbtxt or CONFIG.json. The answer, on stdout, is the configuration as JSON,
defaults left out.
"""

import sys
from pathlib import Path

from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

path = Path(sys.argv[1])
parse = json_format.Parse if path.suffix == ".json" else text_format.Parse
config = parse(path.read_text(), model_config_pb2.ModelConfig())
sys.stdout.write(json_format.MessageToJson(config, preserving_proto_field_name=True))
