"""Triton's own schema reads `config.pbtxt`; runs in the environment of the clients.

Usage: read_config.py CONFIG.pbtxt. The answer, on stdout, is the configuration as JSON, defaults left out.
"""

import sys
from pathlib import Path

from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

config = text_format.Parse(Path(sys.argv[1]).read_text(), model_config_pb2.ModelConfig())
sys.stdout.write(json_format.MessageToJson(config, preserving_proto_field_name=True))
