#!/usr/bin/env python3
"""Checks that nothing but the `asm!` blocks of the AMX kernel touches tile registers.

    tools/tiles.py [--keep DIR] [BINARY ...]
    tools/tiles.py --self-test

Tile registers keep their values between the blocks of a walk (kernels/src/x86/amx.rs), which `asm!` cannot
declare. So this compiles the kernels, for any x86-64 and for a CPU with AMX, whose instructions the compiler
may then use, and looks at each instruction of the assembly:

1. What touches tiles stands in an `asm!` block, in a function of the AMX kernel or of its probe.
2. Such a function contains all of its walk: one that touches tiles configures and releases them.
3. It calls nothing that touches tiles: only functions of this assembly that do not, functions outside of the
   crate (memcpy, panics), and, through a pointer, the epilogues of the table, which rule 1 clears.

It does not follow calls of calls or jumps between functions, nor the order of instructions in one.

Of each BINARY, a linked program, it disassembles all and holds it to rule 1, as far as symbols tell. Fails
too if it finds no tiles at all: then it has not looked at the kernel.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = "x86_64-unknown-linux-gnu"
CPUS = ("x86-64", "sapphirerapids")

TILE = re.compile(
    r"\b(ldtilecfg|sttilecfg|tile(release|zero|loaddt?1?|stored|movrow)|tdp\w+|tcmm\w+)\b|%tmm\d"
)
# Functions that may touch tiles, by a part of their mangled and demangled names.
MODULES = re.compile(r"\b(arch::amx|probe)::|4arch3amx|5probe")
# What the kernel and its probe must show, or else this has looked elsewhere.
EXPECTED = ("ldtilecfg", "tilerelease", "tilezero", "tileloadd", "tilestored", "tdpbusd")


def compile_kernels(cpu, directory):
    """The assembly of the kernels with their probes."""
    command = [
        "cargo", "rustc", "--quiet", "-p", "noisyquant-kernels", "--release", "--features", "probe",
        "--target", TARGET, "--target-dir", f"{directory}/{cpu}", "--",
        "--emit", "asm", "-C", "codegen-units=1", "-C", f"target-cpu={cpu}",
    ]
    subprocess.run(command, cwd=ROOT, check=True)
    deps = pathlib.Path(directory) / cpu / TARGET / "release" / "deps"
    files = sorted(deps.glob("noisyquant_kernels-*.s"), key=lambda path: path.stat().st_mtime)
    return files[-1].read_text()


def functions(text):
    """Symbol -> pairs of an instruction and whether an `asm!` block holds it."""
    found, current, in_block = {}, None, False
    for line in text.splitlines():
        line = line.strip()
        if line in ("#APP", "#NO_APP"):
            in_block = line == "#APP"
        line = line.split("#")[0].strip()
        if re.match(r"_[RZ]\w+:$", line):
            current = found.setdefault(line[:-1], [])
        elif line.startswith(".cfi_endproc"):
            current = None
        elif current is not None and line and not re.match(r"[.\w$]+:$|\.", line):
            current.append((line, in_block))
    return found


def check_assembly(cpu, text):
    """The faults of one assembly."""
    code = functions(text)
    touching = {name: [x for x in body if TILE.search(x[0])] for name, body in code.items()}
    touching = {name: tiles for name, tiles in touching.items() if tiles}
    seen = {word for tiles in touching.values() for line, _ in tiles for word in line.split()}
    for word in EXPECTED:
        if word not in seen:
            yield f"{cpu}: no {word} in the kernels"
    for name, tiles in touching.items():
        where = f"{cpu}: {name}"
        if not MODULES.search(name):
            yield f"{where} touches tiles"
        for line, in_block in tiles:
            if not in_block:
                yield f"{where}: `{line}` is the compiler's"
        words = [line.split()[0] for line, _ in tiles]
        if words[0] != "ldtilecfg" or "tilerelease" not in words:
            yield f"{where} does not configure and release the tiles that it touches"
        for line, _ in code[name]:
            if line.startswith("call"):
                called = line.split()[-1].lstrip("*").split("@")[0].split("(")[0]
                if called in touching:
                    yield f"{where} calls {called}, which touches tiles"
    calls = sum(line.startswith("call") for name in touching for line, _ in code[name])
    print(f"{cpu}: {len(touching)} of {len(code)} functions touch tiles, and make {calls} calls")


def check_binary(path):
    """The faults of a linked program."""
    command = ["objdump", "--disassemble", "--demangle", "--no-show-raw-insn", path]
    symbol, found = "?", {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as run:
        for line in run.stdout:
            if head := re.match(r"[0-9a-f]+ <(.*)>:$", line.strip()):
                symbol = head[1]
            elif TILE.search(line):
                found[symbol] = found.get(symbol, 0) + 1
    if run.returncode != 0:
        sys.exit(f"objdump failed on {path}")
    if not found:
        yield f"{path}: no tiles at all"
    for symbol, count in found.items():
        if not MODULES.search(symbol):
            yield f"{path}: {symbol} touches tiles, {count} times"
    print(f"{path}: {sum(found.values())} instructions on tiles in {len(found)} functions")


# What rule each line breaks that is put in place of a line of this function.
SOUND = """_ZN4arch3amx5block17h0E:
#APP
ldtilecfg (%rax)
#NO_APP
movq %rax, %rdi
#APP
tilezero %tmm0
tileloadd (%rax,%rcx), %tmm4
tdpbusd %tmm6, %tmm4, %tmm0
tilestored %tmm0, (%rax,%rcx)
#NO_APP
callq *%rbx
callq memcpy@PLT
#APP
tilerelease
#NO_APP
.cfi_endproc
_ZN4arch5other17h0E:
retq
.cfi_endproc
"""
UNSOUND = (
    ("movq %rax, %rdi", "tilezero %tmm1", "the compiler's"),
    ("retq", "#APP\ntilezero %tmm1\n#NO_APP", "other17h0E touches tiles"),
    ("callq *%rbx", "callq _ZN4arch3amx5block17h0E", "which touches tiles"),
    ("tilerelease", "nop", "does not configure and release"),
    ("ldtilecfg (%rax)", "nop", "does not configure and release"),
    ("tdpbusd %tmm6, %tmm4, %tmm0", "nop", "no tdpbusd"),
)


def self_test():
    """Each rule, broken in turn."""
    assert not list(check_assembly("sound", SOUND))
    for old, new, fault in UNSOUND:
        assert SOUND.count(f"{old}\n") == 1, old
        faults = list(check_assembly("unsound", SOUND.replace(f"{old}\n", f"{new}\n")))
        assert any(fault in said for said in faults), (fault, faults)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binaries", nargs="*", metavar="BINARY")
    parser.add_argument("--keep", help="build in this directory")
    parser.add_argument("--self-test", action="store_true", help="break each rule and see that it is found")
    options = parser.parse_args()
    if options.self_test:
        return self_test()
    faults = []
    with tempfile.TemporaryDirectory() as temporary:
        for cpu in CPUS:
            faults += check_assembly(cpu, compile_kernels(cpu, options.keep or temporary))
    for path in options.binaries:
        faults += check_binary(path)
    sys.exit("\n".join(faults) or None)


main()
