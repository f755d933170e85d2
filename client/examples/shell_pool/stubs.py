"""The broker's Python stubs, generated from the .proto files of this checkout.

Debian's protoc and grpc_python_plugin do it; python3-grpc-tools is too old for the `optional` of proto3.
"""

import importlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

PROTO_DIR = Path(__file__).resolve().parents[3] / "proto"
PROTO_FILES = ("sessionbroker/v1/broker.proto", "google/rpc/status.proto", "google/rpc/error_details.proto")


@dataclass(frozen=True)
class Stubs:
    broker: ModuleType
    """Messages and enums of sessionbroker.v1."""
    broker_grpc: ModuleType
    """SessionBrokerServiceStub and AdminServiceStub."""
    status: ModuleType
    """google.rpc.Status, what an error carries."""
    details: ModuleType
    """google.rpc.ErrorInfo and its companions."""


def generate(out_dir):
    """Writes the stubs into `out_dir`. Raises RuntimeError with protoc's words if it cannot."""
    command = ["protoc", f"--proto_path={PROTO_DIR}", f"--python_out={out_dir}", f"--grpc_out={out_dir}"]
    command += ["--plugin=protoc-gen-grpc=/usr/bin/grpc_python_plugin", *PROTO_FILES]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise RuntimeError("protoc is missing: apt install protobuf-compiler protobuf-compiler-grpc") from error
    if result.returncode != 0:
        raise RuntimeError(f"protoc: {result.stderr.strip()}")


def load(out_dir):
    """Imports what generate() wrote."""
    sys.path.insert(0, str(out_dir))  # first, so that no installed google.rpc is taken for ours
    return Stubs(
        broker=importlib.import_module("sessionbroker.v1.broker_pb2"),
        broker_grpc=importlib.import_module("sessionbroker.v1.broker_pb2_grpc"),
        status=importlib.import_module("google.rpc.status_pb2"),
        details=importlib.import_module("google.rpc.error_details_pb2"),
    )
