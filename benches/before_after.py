#!/usr/bin/env python3
"""Two builds of examples/latency next to each other: is the second slower than the first?

    cargo build --release --example latency        # in either checkout
    benches/before_after.py BEFORE/target/release/examples/latency target/release/examples/latency

Runs both, and a copy of the first as a control, in turn for some rounds, and prints for each instruction
set, number of threads and shape the median of the first in microseconds and the medians of the ratios of
each round: the second ÷ the first, and the control ÷ the first, whose distance from 1 is noise. Nothing else
should run on the machine.
"""

import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import tempfile

SHAPES = "197,384,1152;197,384,384;197,384,1536;197,1536,384;197,768,3072;197,3072,768;16,768,768;1,4096,4096"


def times(program, isa, threads, bits, seconds):
    """Median microseconds of each shape."""
    command = [program, "--json", "--isa", isa, "--threads", str(threads), "--bits", str(bits)]
    command += ["--secs", str(seconds), "--shapes", SHAPES]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    lines = [json.loads(line) for line in lines]
    return {f"{line['M']},{line['K']},{line['N']}": line["med_us"] for line in lines}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--isas", default="avx512vnni,avx2", help="names with commas between")
    parser.add_argument("--threads", default="1,2", help="numbers with commas between")
    parser.add_argument("--bits", default="8,6", help="bits of the activations, with commas between")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.1, help="for each shape in each round")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        control = pathlib.Path(folder) / "control"
        shutil.copy2(args.before, control)
        programs = [args.before, args.after, str(control)]
        print("| set, bits, threads | M,K,N | before, µs | after ÷ before | control ÷ before |")
        print("| --- | --- | --- | --- | --- |")
        every = {"after": [], "control": []}
        settings = [
            (isa, bits, threads)
            for isa in args.isas.split(",")
            for bits in args.bits.split(",")
            for threads in args.threads.split(",")
        ]
        for isa, bits, threads in settings:
            rounds = []
            for number in range(args.rounds):
                order = programs[number % 3 :] + programs[: number % 3]
                found = {p: times(p, isa, threads, bits, args.seconds) for p in order}
                rounds.append([found[p] for p in programs])
            for shape in rounds[0][0]:
                before = statistics.median(r[0][shape] for r in rounds)
                after = statistics.median(r[1][shape] / r[0][shape] for r in rounds)
                same = statistics.median(r[2][shape] / r[0][shape] for r in rounds)
                every["after"].append(after)
                every["control"].append(same)
                row = f"{isa}, {bits}, {threads} | {shape} | {before:.1f} | {after:.3f} | {same:.3f}"
                print(f"| {row} |", flush=True)
        for name, ratios in every.items():
            spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
            print(f"{name} ÷ before: geometric mean {statistics.geometric_mean(ratios):.4f}, {spread}")


main()
