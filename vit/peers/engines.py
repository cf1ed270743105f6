"""onnxruntime and OpenVINO behind one face: image [1, 3, 224, 224] in, features or logits [1, n] out."""
from pathlib import Path

import onnxruntime
import openvino


class OnnxRuntime:
    library = f"onnxruntime {onnxruntime.__version__}"

    def __init__(self, file: Path, threads: int):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        self.settings = {"intra_op_num_threads": threads, "inter_op_num_threads": 1,
                         "execution_mode": "sequential", "graph_optimization_level": "all"}

    def run(self, image):
        return self.session.run(None, {self.input: image})[0]


class OpenVino:
    library = f"openvino {openvino.__version__.split('-')[0]}"
    REPORTED = ("INFERENCE_PRECISION_HINT", "INFERENCE_NUM_THREADS", "NUM_STREAMS", "ENABLE_CPU_PINNING",
                "ENABLE_HYPER_THREADING", "EXECUTION_MODE_HINT")

    def __init__(self, file: Path, threads: int, precision: str | None = None):
        """`precision` of what is not int8: "f32", or OpenVINO's own choice, bf16 where the CPU has it."""
        wanted = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        if precision:
            wanted["INFERENCE_PRECISION_HINT"] = precision
        compiled = openvino.Core().compile_model(str(file), "CPU", wanted)
        self.request = compiled.create_infer_request()
        values = {name: compiled.get_property(name) for name in self.REPORTED}
        self.settings = {
            name: getattr(value, "get_type_name", value.__str__)() for name, value in values.items()
        }

    def run(self, image):
        return self.request.infer([image], share_inputs=True)[0].copy()
