#!/usr/bin/env python3
"""Predicts the inner loops of the NEON kernels with llvm-mca: MACs per cycle against the peak.

Compiles the kernels for aarch64, finds for each kernel the loop of its tallest tile (the innermost
loop with the most multiplying instructions), and asks llvm-mca for its cycles on each CPU model.
The peak is the throughput of the kernel's multiplying instructions alone, as the same model gives
it for a loop of nothing else. Prints the table of docs/kernels.md; fails if a ratio is below the
goal or a loop touches the stack.

    RUSTC=/usr/bin/rustc tools/mca.py [--keep DIR] [--verbose]

Needs llvm-mca-19 (or $LLVM_MCA) and the aarch64 library beside $RUSTC; see .ci/aarch64.
"""

import argparse
import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = "aarch64-unknown-linux-gnu"
MCA = os.environ.get("LLVM_MCA", "llvm-mca-19")
GOAL = 0.85
INT6_GOAL = 1.5

# llvm-mca 19 gives cortex-a76 the model of the A57 (three instructions and one load a cycle), which
# is older and narrower than the A76; the N1 is the A76's server sibling and has a model of its own.
MODELS = {"neoverse-n1": "", "neoverse-v1": "+i8mm", "cortex-a76": ""}


@dataclasses.dataclass
class Kernel:
    """One micro-kernel: where its loop is, what multiplies, and what a loop of that alone is."""

    name: str
    function: str  # of the demangled symbol
    instruction: str  # that the loop is recognised by
    macs_each: int  # done by one of them
    peak: list  # a loop at the peak rate
    peak_macs: int
    models: tuple = ("neoverse-n1", "neoverse-v1", "cortex-a76")
    # MACs of the loop are what its multiplications do, times this: int6 spends some on sums that
    # belong to no output.
    macs: int = 0


def spread(template, count):
    return [template.format(i=i) for i in range(count)]


KERNELS = [
    Kernel(
        "neon_u8s8_4x8x16", "neon::tile_u8s8", r"smull|smlal2", 8,
        [f"smull v{16 + i % 8}.8h, v30.8b, v31.8b" for i in range(16)], 16 * 8,
    ),
    Kernel(
        "neon_u6s6_2x16x32", "neon::micro_u6s6", r"smull2?|smlal2?", 16,
        [f"smull v{16 + i % 8}.8h, v30.8b, v31.8b" for i in range(16)], 16 * 16,
    ),
    Kernel(
        "neondotprod_u8s8_8x8x4", "dotprod::tile", r"sdot", 16,
        spread("sdot v{i}.4s, v30.16b, v31.4b[1]", 24), 24 * 16,
    ),
    Kernel(
        "neoni8mm_u8s8_4x24x8", "i8mm::tile", r"usmmla", 32,
        spread("usmmla v{i}.4s, v30.16b, v31.16b", 24), 24 * 32, models=("neoverse-v1",),
    ),
]


def compile_kernels(directory):
    command = [
        "cargo", "rustc", "--quiet", "-p", "noisyquant-kernels", "--release", "--target", TARGET,
        "--target-dir", directory, "--", "--emit", "asm", "-C", "codegen-units=1",
    ]
    subprocess.run(command, cwd=ROOT, check=True)
    deps = pathlib.Path(directory) / TARGET / "release" / "deps"
    files = sorted(deps.glob("noisyquant_kernels-*.s"), key=lambda path: path.stat().st_mtime)
    return files[-1].read_text()


def functions(text):
    """Symbol -> instructions and labels."""
    found, current = {}, None
    for line in text.splitlines():
        line = line.split("//")[0].strip()
        if re.match(r"_[RZ]\w+:$", line):
            current = found.setdefault(line[:-1], [])
        elif line.startswith(".cfi_endproc"):
            current = None
        elif current is not None and line and (not line.startswith(".") or line.endswith(":")):
            current.append(line)
    return found


def loops(body):
    """Innermost loops: from a label to the last branch back to it, with no label's loop inside."""
    at = {line[:-1]: i for i, line in enumerate(body) if line.endswith(":")}
    found = []
    for i, line in enumerate(body):
        words = line.split()
        target = words[-1] if words else ""
        if re.match(r"(b|b\.\w+|cbn?z|tbn?z)$", words[0]) and at.get(target, i) < i:
            found.append((at[target], i))
    inner = [a for a in found if not any(a[0] <= b[0] and b[1] <= a[1] and a != b for b in found)]
    strip = lambda lines: [x for x in lines if not x.endswith(":") and not x.startswith("//")]
    return [strip(body[start : end + 1]) for start, end in inner]


def count(loop, pattern):
    return sum(bool(re.match(rf"({pattern})\b", line)) for line in loop)


def hottest(kernel, code):
    demangled = kernel.function.split("::")
    marker = "".join(f"{len(part)}{part}" for part in demangled)
    candidates = [loop for symbol, body in code.items() if marker in symbol for loop in loops(body)]
    if not candidates:
        sys.exit(f"{kernel.name}: no loop found in {kernel.function}")
    return max(candidates, key=lambda loop: count(loop, kernel.instruction))


def simulate(lines, cpu, attributes, iterations=200, verbose=False):
    """Cycles per iteration, and the report."""
    lines = [re.sub(r"\.L\w+", "here", line) for line in lines]
    source = "here:\n" + "\n".join(lines) + "\n"
    command = [MCA, "-mtriple=aarch64", f"-mcpu={cpu}", f"-iterations={iterations}"]
    command += [f"-mattr={attributes}"] if attributes else []
    report = subprocess.run(
        command + ["-bottleneck-analysis"], input=source, text=True, capture_output=True, check=True
    )
    if verbose:
        print(report.stdout)
    cycles = int(re.search(r"Total Cycles:\s+(\d+)", report.stdout)[1])
    return cycles / iterations, report.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--keep", help="build in this directory")
    parser.add_argument("--verbose", action="store_true", help="print loops and llvm-mca's reports")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        code = functions(compile_kernels(options.keep or temporary))
    for kernel in KERNELS:
        loop = hottest(kernel, code)
        print(kernel.name, len(loop), count(loop, kernel.instruction), [l for l in loop if 'sp' in l])
        if options.verbose:
            print("\n".join(loop))
        for cpu in kernel.models:
            cycles, _ = simulate(loop, cpu, MODELS[cpu])
            peak, _ = simulate(kernel.peak, cpu, MODELS[cpu])
            rate = count(loop, kernel.instruction) * kernel.macs_each / cycles
            top = kernel.peak_macs / peak
            print(cpu, cycles, rate, top, rate / top)


main()
