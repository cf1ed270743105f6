#!/usr/bin/env python3
"""Predicts the inner loops of the kernels with llvm-mca: MACs per cycle against the peak.

Compiles the kernels for an architecture, finds for each kernel the loop of its tallest tile (the
innermost loop with the most multiplying instructions), and asks llvm-mca for its cycles on each CPU
model. The peak is the throughput of the kernel's multiplying instructions alone, as the same model
gives it for a loop of nothing else. Prints the table of docs/kernels.md or docs/kernels-neon.md;
fails if a ratio is below the goal or a loop touches the stack.

    RUSTC=/usr/bin/rustc tools/mca.py aarch64 [--keep DIR] [--loops]
    tools/mca.py x86_64

Needs llvm-mca-19 (or $LLVM_MCA), and for aarch64 its library beside $RUSTC; see .ci/aarch64. There
is no model of `tdpbusd`, so AMX is not predicted.
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
MCA = os.environ.get("LLVM_MCA", "llvm-mca-19")
GOAL = 0.85  # of the peak
INT6_GOAL = 1.5
INT8, INT6 = "neon_u8s8_4x8x16", "neon_u6s6_2x16x32"

# CPU models and the features that their names lack. llvm-mca 19 gives cortex-a76 the model of the A57
# (three instructions and one load a cycle), which is older and narrower than the A76; the N1 is the
# A76's server sibling and has a model of its own. Its znver4 gives broadcasts from memory a vector
# port, which they do not need: loops that run at 96 % of the peak get 58 to 80 %.
MODELS = {
    "aarch64": {"neoverse-n1": "", "neoverse-v1": "+i8mm", "cortex-a76": ""},
    "x86_64": {"haswell": "", "alderlake": "", "sapphirerapids": ""},
}

COMMENT = {"aarch64": "//", "x86_64": "#"}  # "#" marks an immediate in the assembly of aarch64


@dataclasses.dataclass
class Kernel:
    """One micro-kernel: where its loop is, what multiplies, and what a loop of that alone is."""

    name: str
    function: str  # of the demangled symbol
    instruction: str  # that the loop is recognised by
    macs_each: int  # done by one of them
    peak: list  # a loop at the peak rate
    peak_macs: int
    models: tuple
    in_loop: int | None = None  # of that instruction; the loop that has most, if not given


def spread(template, count):
    return [template.format(i=i) for i in range(count)]


ARM = ("neoverse-n1", "neoverse-v1", "cortex-a76")
X86 = ("haswell", "alderlake")

NEON_KERNELS = [
    # The peak of int8 and of int6 is that of byte multiplications, eight products each. int6 gets
    # two MACs out of a product.
    Kernel(
        "neon_u8s8_4x8x16", "neon::tile_u8s8", r"smull|smlal2", 8,
        [f"smull v{16 + i % 8}.8h, v30.8b, v31.8b" for i in range(16)], 16 * 8, ARM,
    ),
    Kernel(
        "neon_u6s6_2x16x32", "neon::micro_u6s6", r"smull2?|smlal2?", 16,
        [f"smull v{16 + i % 8}.8h, v30.8b, v31.8b" for i in range(16)], 16 * 16, ARM,
    ),
    Kernel(
        "neondotprod_u8s8_8x8x4", "dotprod::tile", r"sdot", 16,
        spread("sdot v{i}.4s, v30.16b, v31.4b[1]", 24), 24 * 16, ARM,
    ),
    Kernel(
        "neondotprod_u6s6_8x8x4", "dotprod::four_tiles", r"sdot", 16,
        spread("sdot v{i}.4s, v30.16b, v31.4b[1]", 24), 24 * 16, ARM,
    ),
    Kernel(
        "neoni8mm_u8s8_4x24x8", "i8mm::tile", r"usmmla", 32,
        spread("usmmla v{i}.4s, v30.16b, v31.16b", 24), 24 * 32, ("neoverse-v1",),
    ),
    Kernel(
        "neoni8mm_u6s6_4x24x8", "i8mm::four_tiles", r"usmmla", 32,
        spread("usmmla v{i}.4s, v30.16b, v31.16b", 24), 24 * 32, ("neoverse-v1",),
    ),
]

# The peak of AVX2 is that of the kernel's whole step on registers, as in the bench `ukernel`; of int6
# the step that is repeated.
X86_KERNELS = [
    Kernel(
        "avx2_u8s8_6x16x2", "avx2::tile_u8s8", r"vpmaddwd", 16,  # where a panel was widened
        [line for i in range(12) for line in (
            "vpmaddwd %ymm12, %ymm13, %ymm14", f"vpaddd %ymm14, %ymm{i}, %ymm{i}")],
        12 * 16, X86,
    ),
    Kernel(
        "avx2_u7s8_6x16x4", "avx2::tile_u7s8", r"vpmaddubsw", 32,
        [line for i in range(12) for line in (
            "vpmaddubsw %ymm12, %ymm13, %ymm14", "vpmaddwd %ymm12, %ymm14, %ymm14",
            f"vpaddd %ymm14, %ymm{i}, %ymm{i}")],
        12 * 32, X86,
    ),
    Kernel(
        "avx2_u6s6_6x16x4", "avx2::tile_u6s6", r"vpmaddubsw", 32,
        [line for i in range(12) for line in (
            "vpmaddubsw %ymm12, %ymm13, %ymm14", f"vpaddw %ymm14, %ymm{i}, %ymm{i}")],
        12 * 32, X86, in_loop=12,
    ),
    Kernel(
        "avxvnni_u8s8_6x16x4", "avxvnni::tile", r"(\{vex\}\s+)?vpdpbusd", 32,
        spread("{{vex}} vpdpbusd %ymm12, %ymm13, %ymm{i}", 12), 12 * 32, ("alderlake",),
    ),
    Kernel(
        "avxvnni_u6s6_6x16x4", "avxvnni::four_tiles", r"(\{vex\}\s+)?vpdpbusd", 32,
        spread("{{vex}} vpdpbusd %ymm12, %ymm13, %ymm{i}", 12), 12 * 32, ("alderlake",),
    ),
    Kernel(
        "avx512vnni_u8s8_12x32x4", "zmm::tile::tile", r"vpdpbusd", 64,
        spread("vpdpbusd %zmm30, %zmm31, %zmm{i}", 24), 24 * 64, ("sapphirerapids",),
    ),
    Kernel(
        "avx512vnni_u6s6_12x32x4", "zmm::strassen::four_tiles", r"vpdpbusd", 64,
        spread("vpdpbusd %zmm30, %zmm31, %zmm{i}", 24), 24 * 64, ("sapphirerapids",),
    ),
]

KERNELS = {"aarch64": NEON_KERNELS, "x86_64": X86_KERNELS}


def compile_kernels(arch, directory):
    target = f"{arch}-unknown-linux-gnu"
    command = [
        "cargo", "rustc", "--quiet", "-p", "noisyquant-kernels", "--release", "--target", target,
        "--target-dir", directory, "--", "--emit", "asm", "-C", "codegen-units=1",
    ]
    subprocess.run(command, cwd=ROOT, check=True)
    deps = pathlib.Path(directory) / target / "release" / "deps"
    files = sorted(deps.glob("noisyquant_kernels-*.s"), key=lambda path: path.stat().st_mtime)
    return files[-1].read_text()


def functions(arch, text):
    """Symbol -> instructions and labels."""
    found, current = {}, None
    for line in text.splitlines():
        line = line.split(COMMENT[arch])[0].strip()
        if re.match(r"_[RZ]\w+:$", line):
            current = found.setdefault(line[:-1], [])
        elif line.startswith(".cfi_endproc"):
            current = None
        elif current is not None and line and (not line.startswith(".") or line.endswith(":")):
            current.append(line)
    return found


BRANCH = re.compile(r"(b|b\.\w+|cbn?z|tbn?z|j\w+)$")


def loops(body):
    """Innermost loops: from a label to the last branch back to it, with no label's loop inside."""
    at = {line[:-1]: i for i, line in enumerate(body) if line.endswith(":")}
    found = []
    for i, line in enumerate(body):
        words = line.split()
        target = words[-1] if words else ""
        if BRANCH.match(words[0]) and at.get(target, i) < i:
            found.append((at[target], i))
    inner = [a for a in found if not any(a[0] <= b[0] and b[1] <= a[1] and a != b for b in found)]
    strip = lambda lines: [x for x in lines if not x.endswith(":")]
    return [strip(body[start : end + 1]) for start, end in inner]


def count(loop, pattern):
    return sum(bool(re.match(rf"({pattern})\b", line)) for line in loop)


def loops_of(kernel, code):
    marker = "".join(f"{len(part)}{part}" for part in kernel.function.split("::"))
    found = [loop for symbol, body in code.items() if marker in symbol for loop in loops(body)]
    if not found:
        sys.exit(f"{kernel.name}: no loop found in {kernel.function}")
    return found


def simulate(arch, lines, cpu, iterations=200):
    """Cycles per iteration, and what limits them, as llvm-mca says."""
    features = MODELS[arch][cpu]
    lines = [re.sub(r"\.L\w+", "here", line) for line in lines]
    command = [MCA, f"-mtriple={arch}", f"-mcpu={cpu}", f"-iterations={iterations}"]
    command += [f"-mattr={features}"] if features else []
    command += ["-bottleneck-analysis", "-resource-pressure"]
    source = "here:\n" + "\n".join(lines) + "\n"
    run = subprocess.run(command, input=source, text=True, capture_output=True)
    if run.returncode != 0:
        sys.exit(run.stderr)
    cycles = int(re.search(r"Total Cycles:\s+(\d+)", run.stdout)[1])
    return cycles / iterations, busiest(run.stdout, cycles / iterations)


def busiest(report, cycles):
    """The resources that are busy for most of the cycles."""
    names = dict(re.findall(r"\[([\d.]+)\]\s+- (\w+)", report))
    section = report.split("Resource pressure per iteration:")[1].strip().splitlines()
    heads, values = re.findall(r"\[([\d.]+)\]", section[0]), section[1].split()
    pressure = {}
    for head, value in zip(heads, values):
        if value != "-":
            pressure[head] = (float(value), names[head])
    top = [(v, name) for v, name in pressure.values() if v >= 0.85 * cycles]
    width = float(re.search(r"uOps Per Cycle:\s+([\d.]+)", report)[1])
    limit = float(re.search(r"Dispatch Width:\s+([\d.]+)", report)[1])
    names = [f"{name} {100 * v / cycles:.0f} %" for v, name in sorted(top, reverse=True)]
    if width >= 0.95 * limit:
        names.append(f"dispatch {width:.1f} of {limit:.0f} a cycle")
    return ", ".join(names) or "latency"


def touches_stack(loop):
    return any(re.search(r"\[sp|%rsp", line) for line in loop)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("arch", choices=KERNELS)
    parser.add_argument("--keep", help="build in this directory")
    parser.add_argument("--loops", action="store_true", help="print the loops too")
    options = parser.parse_args()
    arch = options.arch
    with tempfile.TemporaryDirectory() as temporary:
        code = functions(arch, compile_kernels(arch, options.keep or temporary))

    failures, rates = [], {}
    print("| kernel | model | cycles | MACs/cycle | peak | ratio | busy |")
    print("| --- | --- | ---: | ---: | ---: | ---: | --- |")

    def row(name, cpu, cycles, macs, peak, busy, goal=0):
        rate = macs / cycles
        rates[name, cpu] = rate
        ratio = rate / peak
        print(
            f"| `{name}` | {cpu} | {cycles:.1f} | {rate:.1f} | {peak:.1f} | {100 * ratio:.0f} % | {busy} |"
        )
        if ratio < goal:
            failures.append(f"{name} on {cpu}: {100 * ratio:.0f} % of the peak")

    for kernel in KERNELS[arch]:
        found = loops_of(kernel, code)
        found = [loop for loop in found if not count(loop, "vpmovsxbw")]
        counts = [count(loop, kernel.instruction) for loop in found]
        loop = found[counts.index(kernel.in_loop or max(counts))]
        if options.loops:
            print("\n".join([f"<!-- {kernel.name}", *loop, "-->"]))
        if touches_stack(loop):
            failures.append(f"{kernel.name}: the loop spills")
        for cpu in kernel.models:
            cycles, busy = simulate(arch, loop, cpu)
            peak = kernel.peak_macs / simulate(arch, kernel.peak, cpu)[0]
            macs = count(loop, kernel.instruction) * kernel.macs_each
            row(kernel.name, cpu, cycles, macs, peak, busy, GOAL)
            if kernel.name == INT6:
                # Beside four such loops (16 channels), two rows need their pair sums: a loop with
                # one `sadalp` a row and 64 inputs, twice.
                pairs = next(x for x in found if count(x, "sadalp") == 2)
                more = 4 * cycles + 2 * simulate(arch, pairs, cpu)[0]
                row(f"{INT6} with pair sums", cpu, more, 4 * macs, peak, "")

    print()
    for cpu in MODELS[arch] if (INT8, ARM[0]) in rates else []:
        ratio = rates[f"{INT6} with pair sums", cpu] / rates[INT8, cpu]
        print(f"{cpu}: plain int6 is {ratio:.2f} times plain int8, pair sums included.")
        if ratio < INT6_GOAL:
            failures.append(f"int6 on {cpu}: {ratio:.2f} times int8")
    if failures:
        sys.exit("\n".join(failures))


main()
