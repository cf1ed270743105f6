"""Every quantizer and bias on the ViT-S/14: mean cosine of the class-token features to f32, as a table.

    python options.py --checkpoint /tmp/vits14 --calibration PHOTOS --test OTHERS \\
        --tool ../../target/release/noisyquant

Fails if `auto` is below what it is held to or below any other option, or if noise does not help min-max.
Half an hour.
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

HELD_TO = {8: 0.9975, 6: 0.987, 4: 0.80}
QUANTIZERS = ("minmax", "percentile", "mse", "easyquant", "twin")
BIASES = ("none", "noise", "shift", "shift+scale")


def cosine(options, bits, flags) -> float:
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.safetensors"
        tool, checkpoint = str(options.tool), str(options.checkpoint)
        subprocess.run([tool, "quantize", checkpoint, "--images", str(options.calibration), "-o", str(model),
                        "--weight-bits", str(bits), "--activation-bits", str(bits), *flags],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        compared = subprocess.run([tool, "compare", checkpoint, str(model), "--images", str(options.test),
                                   "--json"], check=True, capture_output=True, text=True)
    return json.loads(compared.stdout)["cosine_mean"]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("checkpoint", "calibration", "test", "tool"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--bits", type=int, nargs="+", default=sorted(HELD_TO, reverse=True))
    parser.add_argument("--quantizers", nargs="+", default=QUANTIZERS, choices=QUANTIZERS)
    options = parser.parse_args()
    failures = []
    for bits in options.bits:
        row = {"auto": cosine(options, bits, ["--bias", "auto"])}
        print(f"{bits} bits  {'auto':24} {row['auto']:.5f}", flush=True)
        for quantizer in options.quantizers:
            for bias in BIASES:
                name = f"{quantizer}, {bias}"
                row[name] = cosine(options, bits, ["--quantizer", quantizer, "--bias", bias])
                print(f"{bits} bits  {name:24} {row[name]:.5f}", flush=True)
        failures += [f"{bits} bits: {name} is above auto" for name in row if row[name] > row["auto"]]
        if row["auto"] < HELD_TO.get(bits, 0):
            failures.append(f"{bits} bits: auto is below {HELD_TO[bits]}")
        if "minmax, none" in row and row["minmax, noise"] <= row["minmax, none"]:
            failures.append(f"{bits} bits: noise does not help min-max")
    print("\n".join(failures) or "all hold")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
