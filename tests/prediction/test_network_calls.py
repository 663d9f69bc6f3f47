"""Calls of exported networks, by the runtimes that read them."""

import subprocess
import sys

import pytest

LET_GO_ELSEWHERE = """
import signal, subprocess, sys, threading
from pathlib import Path
import torch
from segsmith.modeling.hardware import Hardware
from segsmith.prediction.network_calls import RUNTIMES, RuntimeCall

signal.signal(signal.SIGCHLD, lambda *_: None)  # as PyTorch does where workers read images
held = [RuntimeCall(RUNTIMES[sys.argv[2]], Path(sys.argv[1]), 1, Hardware(torch.device("cpu"), "fp32"))]
print(held[0](torch.full((1, 3, 2, 2), 7, dtype=torch.uint8)).planes.unique().tolist())
last = threading.Thread(target=held.clear)
last.start()
last.join()
subprocess.run(["true"], check=True)  # its end is a signal
print("lives")
"""


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_network_that_another_thread_lets_go_of_leaves_signals_as_they_were(tmp_path, runtime):
    """What reads images ahead is such a thread."""
    pytest.importorskip(runtime, reason=f"{runtime} is not installed")
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'segsmith[export]'")
    helper, shape = onnx.helper, ["batch", 3, "height", "width"]
    graph = helper.make_graph(
        [helper.make_node("Cast", ["images"], ["planes"], to=onnx.TensorProto.FLOAT)], "cast",
        [helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("planes", onnx.TensorProto.FLOAT, shape)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "0.onnx")
    command = [sys.executable, "-c", LET_GO_ELSEWHERE, str(tmp_path / "0.onnx"), runtime]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[7.0]\nlives\n"), done.stderr
