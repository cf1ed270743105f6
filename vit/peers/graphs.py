"""The backbone as each peer likes it best: f32, and int8 by the peer's own post-training quantization."""
import tempfile
from pathlib import Path

import nncf
import numpy as np
import onnx
import openvino
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

import backbone


def f32_onnx(model, folder: Path) -> Path:
    """Batch 1, constants folded, position embeddings resized once."""
    graph = backbone.features_graph(model)
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del graph.graph.value_info[:]  # they say batch_size
    file = folder / "f32.onnx"
    with tempfile.TemporaryDirectory() as temporary:
        plain = Path(temporary) / "plain.onnx"
        onnx.save(graph, plain)
        quant_pre_process(str(plain), str(file), skip_symbolic_shape=True)
    return file


class Reader(CalibrationDataReader):
    def __init__(self, images):
        self.images = iter(images)

    def get_next(self):
        image = next(self.images, None)
        return None if image is None else {backbone.INPUT: image[None]}


def qdq_onnx(f32: Path, images, folder: Path, linear_layers_only: bool) -> Path:
    """quantize_static: QDQ, per-channel s8 weights, u8 activations, ranges by minimum and maximum.

    With `linear_layers_only` the layers that we quantize too, whose outputs stay f32 so that LayerNorm and
    GELU are fused behind them; without, every operator that onnxruntime can quantize, which is its default.
    """
    file = folder / ("linear.onnx" if linear_layers_only else "default.onnx")
    options = {}
    if linear_layers_only:
        # Attention's products.
        products = [node.name for node in onnx.load(f32).graph.node if node.op_type == "MatMul"]
        options = {
            "op_types_to_quantize": ["Conv", "Gemm"],
            "nodes_to_exclude": products,
            "extra_options": {"OpTypesToExcludeOutputQuantization": ["Gemm"]},
        }
    quantize_static(str(f32), str(file), Reader(images), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, **options)
    return file


def nncf_ir(f32: Path, images, folder: Path) -> Path:
    """nncf.quantize for transformers: SmoothQuant, fast bias correction."""
    model = openvino.Core().read_model(str(f32))
    dataset = nncf.Dataset(list(images), lambda image: image[None])
    quantized = nncf.quantize(model, dataset, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(images))
    file = folder / "nncf.xml"
    openvino.save_model(quantized, file, compress_to_fp16=False)
    return file


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of each row."""
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
