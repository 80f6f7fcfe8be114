"""OpenVINO without its telemetry: as it comes, importing it sends a message about its use to its makers."""

import sys

# A None here makes importing the package fail, and OpenVINO then uses its own stand-in, which sends nothing.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino  # noqa: E402
import openvino.preprocess  # noqa: E402

__all__ = ["openvino"]
