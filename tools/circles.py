#!/usr/bin/env python3
"""Finds circles of imports between the files of a crate, and imports that go up in the order of layers.

    tools/circles.py [SRC ...]         folders of crates; those of ORDER if none is given
    tools/circles.py --self-test

A file imports another if it names what that file defines: in a `use`, a path (`super::x::f()`) or a macro,
and wherever the name was re-exported on the way. `mod x;` imports nothing; nor does `pub use` of a name that
the file itself leaves alone, nor the name of a module without one of its items. A file also imports another
if it calls a method that stands there in an `impl` of a type of a third file, and that no other `fn` of the
crate shares its name with.

What it cannot see: a value that is used without its type's name, by fields or by methods that stand beside
the type; implementations of traits, which are reached through the trait; names that macros put together;
modules by `cfg_attr`. Tests (`#[cfg(test)]`) may look anywhere and are not read, nor is what `lib.rs` does
not reach. Exits with 1 if there is anything to mend.
"""

import collections
import os
import pathlib
import re
import sys
import tempfile

# From the bottom up: a file imports from its own layer and from those before it. A name is a file or a folder
# of the crate; `lib` may import all.
ORDER = {
    "kernels/src": "cells codes isa layout spec view output < lanes leaf < strassen < row"
    " < scalar x86 aarch64 portable < table < cpu < ready < probe",
    "src": "error check theory < run < layer < calibrate",
    "vit/src": "error readable warning < checkpoint < config < input < ops < model < store < quantize"
    " < measure < cli",
}

# Comments and literals; of these only the paths of modules are kept.
TEXT = re.compile(
    r"""(?P<keep>\#\[path\s*=\s*"[^"]*"\]) | //[^\n]* | /\*.*?\*/
    | \bb?r(?P<hashes>\#*)".*?"(?P=hashes) | "(?:\\.|[^"\\])*" | '(?:\\u\{\w+\}|\\x..|\\.|[^\\'])'""",
    re.VERBOSE | re.DOTALL,
)
TEST = re.compile(r"#\[cfg\((?:test|all\(test\b[^]]*)\)\]")
MOD = re.compile(r"((?:#\[[^]]*\]\s*)*)(?:pub\s*(?:\([^)]*\)\s*)?)?\bmod\s+(\w+)\s*([;{])")
USE = re.compile(r"(\bpub\s*(?:\([^)]*\)\s*)?)?\buse\s+([^;]+);")
ITEM = re.compile(
    r"\b(?:fn|struct|enum|union|trait|type|static|macro_rules!|(?<!<)(?<!, )const(?!\s+(?:fn|unsafe)\b))"
    r"\s+(?:mut\s+)?(\w+)"
)
PATH = re.compile(r"(?<![\w:.])\$?\w+(?:\s*::\s*\w+)+")
FN = re.compile(r"\bfn\s+(\w+)")
IMPL_OF = re.compile(r"(?:.*\bfor\b)?[\s&]*(?:'\w+\s*)?(?:mut\s|dyn\s)?\s*([\w:]+)", re.DOTALL)
METHOD = re.compile(r"\.\s*(\w+)\s*(?:::\s*<[^()]*>\s*)?\(|::\s*(\w+)\b")


def blank(text, start=0, end=None):
    """The text with a part of it in spaces; lines and places stay what they were."""
    end = len(text) if end is None else end
    return text[:start] + re.sub(r"[^\n]", " ", text[start:end]) + text[end:]


def item_end(text, start):
    """The place after the item at `start`: after its `;`, or the brace that closes its first."""
    depth = 0
    for at in range(start, len(text)):
        depth += (text[at] in "([{") - (text[at] in ")]}")
        if depth == 0 and text[at] in ";}":
            return at + 1
    return len(text)


def outermost(text):
    """The text with all that stands in braces blanked."""
    depth, kept = 0, []
    for c in text:
        depth -= c == "}"
        kept.append(c if depth == 0 or c == "\n" else " ")
        depth += c == "{"
    return "".join(kept)


def use_leaves(tree):
    """The paths of a `use` tree, each with the name that it gets."""
    head, brace, rest = tree.strip().partition("{")
    if not brace:
        path, _, alias = re.sub(r"\s+", " ", head).partition(" as ")
        path = [segment.strip() for segment in path.split("::")]
        if path[-1] == "self" and len(path) > 1:
            path.pop()
        return [(path, alias or path[-1])]
    depth, parts = 0, [""]
    for c in rest[: rest.rindex("}")]:
        depth += (c == "{") - (c == "}")
        parts = parts + [""] if c == "," and depth == 0 else parts[:-1] + [parts[-1] + c]
    return [leaf for part in parts if part.strip() for leaf in use_leaves(head + part)]


class Module:
    """A module. A `mod` with several `cfg`s and files is as many modules, apart from each other."""

    def __init__(self, place, file, text, children):
        self.place, self.file, self.children = place, file, children
        self.uses = []  # where, path, name, whether it is `pub`
        for use in USE.finditer(text):
            for path, name in use_leaves(use[2]):
                at = re.search(rf"(?<!\w){re.escape(path[-1])}(?!\w)", use[2]).start()
                self.uses.append((use.start(2) + at, path, name, bool(use[1])))
            text = blank(text, use.start(), use.end())
        self.text, self.outer = text, outermost(text)
        self.items = {item[1] for item in ITEM.finditer(self.outer)}


class Crate:
    def __init__(self, src):
        self.src = src
        self.modules = {}  # by their place, a tuple of names
        self.lines = {}  # of each file
        self.edges = collections.defaultdict(set)  # (from, to): the line numbers that make it
        self.read(src / "lib.rs", (), src)
        self.find_edges()

    def read(self, file, place, folder):
        """Reads a file; the files of its modules are in `folder`."""
        source = file.read_text(encoding="utf-8")
        self.lines[file] = source.splitlines()
        text = TEXT.sub(lambda match: match["keep"] or blank(match[0]), source)
        while test := TEST.search(text):
            text = blank(text, test.start(), item_end(text, test.end()))
        self.split(file, place, text, folder)

    def split(self, file, place, text, folder):
        children = collections.defaultdict(set)
        while mod := MOD.search(text):
            attributes, name, opening = mod.groups()
            end = item_end(text, mod.end() - 1)
            path = re.search(r'path\s*=\s*"([^"]*)"', attributes)
            inner = place + (f"{name} in {path[1]}" if path else name,)
            children[name].add(inner)
            if opening == "{":
                self.split(file, inner, blank(blank(text, 0, mod.end()), end - 1), folder / name)
            elif path:
                self.read(file.parent / path[1], inner, (file.parent / path[1]).parent)
            else:
                files = [folder / f"{name}.rs", folder / name / "mod.rs"]
                self.read(files[files[1].exists()], inner, folder / name)
            text = blank(text, mod.start(), end)
        self.modules[place] = Module(place, file, text, children)

    def lookup(self, place, name, seen):
        """What a name is in a module: the file that defines it, and modules."""
        if (place, name) in seen:
            return set()
        seen = seen | {(place, name)}
        module = self.modules[place]
        found = ({module.file} if name in module.items else set()) | module.children.get(name, set())
        for _, path, alias, _ in module.uses:
            if alias == name:
                found |= self.resolve(place, path, seen)
        for _, path, alias, _ in module.uses:
            if alias == "*" and not found:
                found |= self.resolve(place, path[:-1] + [name], seen)
        return found

    def resolve(self, place, path, seen=frozenset()):
        """What a path means in a module, as `lookup` says it; nothing if it leads out of the crate."""
        found = {place}
        for name in path:
            places = [target for target in found if isinstance(target, tuple)]
            if not places:
                return found  # the rest is a type's: `Type::name`
            if name in ("crate", "$crate"):
                found = {()}
            elif name == "super":
                found = {place[:-1] for place in places}
            elif name != "self":
                found = set().union(*(self.lookup(place, name, seen) for place in places))
        return found

    def find_edges(self):
        macros = {}
        for module in self.modules.values():
            macros |= {name: {module.file} for name in re.findall(r"\bmacro_rules!\s+(\w+)", module.outer)}
        methods = self.methods_elsewhere()
        for module in self.modules.values():
            words = set(re.findall(r"\w+", module.text))
            for at, path, name, public in module.uses:
                if name == "*":
                    for word in words - module.items:
                        self.add(module, at, self.resolve(module.place, path[:-1] + [word]))
                elif name in words or not public:
                    self.add(module, at, self.resolve(module.place, path))
            for path in PATH.finditer(module.text):
                segments = re.sub(r"\s", "", path[0]).split("::")
                self.add(module, path.start(), self.resolve(module.place, segments))
            for call in METHOD.finditer(module.text):
                at = call.start(call.lastindex)
                files, types = methods.get(call[call.lastindex], ((), set()))
                named = re.search(r"(\w+)::$", module.text[:at])
                if not named or named[1] == "Self" or self.resolve(module.place, [named[1]]) & types:
                    self.add(module, at, files)
            for call in re.finditer(r"(\w+)!", module.text):
                self.add(module, call.start(), macros.get(call[1], ()))

    def add(self, module, at, targets):
        for target in targets:
            if not isinstance(target, tuple) and target != module.file:
                self.edges[module.file, target].add(module.text.count("\n", 0, at) + 1)

    def methods_elsewhere(self):
        """The file, and that of its type, of each method that stands apart from its type and shares its name
        with no other `fn`."""
        functions = collections.Counter()
        apart = collections.defaultdict(lambda: (set(), set()))
        for module in self.modules.values():
            functions.update(FN.findall(module.text))
            for impl in re.finditer(r"\bimpl\b([^{]*)\{", module.outer):
                header = impl[1].replace("->", "")
                while header != (header := re.sub(r"<[^<>]*>", "", header)):
                    pass
                name = IMPL_OF.match(header)
                home = self.resolve(module.place, name[1].split("::")) - self.modules.keys() if name else ()
                if home and module.file not in home:
                    body = module.text[impl.end() : item_end(module.text, impl.end() - 1) - 1]
                    for method in FN.findall(outermost(body)):
                        apart[method][0].add(module.file)
                        apart[method][1].update(home)
        return {method: found for method, found in apart.items() if functions[method] == 1}

    def circles(self):
        """The sets of files that reach each other."""
        reach = {}
        for file in self.lines:
            reach[file], todo = set(), [file]
            while todo:
                at = todo.pop()
                new = {end for start, end in self.edges if start == at} - reach[file]
                reach[file] |= new
                todo += new
        circles = {frozenset(b for b in reach[a] if a in reach[b]) for a in reach}
        return sorted(sorted(circle) for circle in circles if circle)


    def against(self, order):
        """The names that are missing in an order, and the imports that go up in it."""
        rank = {name: at for at, layer in enumerate(order.split("<")) for name in layer.split()}
        name = {file: file.relative_to(self.src).with_suffix("").parts[0] for file in self.lines}
        up = [(a, b) for a, b in self.edges if rank.get(name[a], len(rank)) < rank.get(name[b], -1)]
        return sorted(set(name.values()) - rank.keys() - {"lib"}), sorted(up)


def check(src):
    """Prints what there is to mend in a crate, and returns how many circles, imports and names that is."""
    crate = Crate(src)

    def show(start, end):
        print(f"    {start.relative_to(src)} -> {end.relative_to(src)}")
        for line in sorted(crate.edges[start, end]):
            print(f"        {line}: {crate.lines[start][line - 1].strip()}")

    circles = crate.circles()
    for circle in circles:
        print(f"{src}: a circle of {', '.join(str(file.relative_to(src)) for file in circle)}")
        for start, end in sorted(crate.edges):
            if start in circle and end in circle:
                show(start, end)
    unknown, up = crate.against(ORDER[str(src)]) if str(src) in ORDER else ([], [])
    for name in unknown:
        print(f"{src}: `{name}` is missing in ORDER")
    for start, end in up:
        print(f"{src}: goes up in the order of layers")
        show(start, end)
    faults = len(circles) + len(unknown) + len(up)
    print(f"{src}: {len(crate.lines)} files, {len(crate.edges)} imports, {faults} faults")
    return faults


# Small crates, and the circles that they have.
TESTS = {
    "none": (
        {
            "lib.rs": "mod a; mod b; pub use a::A;",
            "a.rs": "pub struct A; // crate::b::B\n /* crate::b::B */ const S: &str = r#\"crate::b::B\"#;"
            " #[cfg(test)] mod tests { use crate::b::B; fn f() {} } #[cfg(test)] use crate::b::B;",
            "b.rs": "use crate::A; pub struct B<'a>(A, &'a char); const C: char = '{';",
        },
        [],
    ),
    "direct": (
        {
            "lib.rs": "mod a; mod b; mod c;",
            "a.rs": "use std::fmt; use crate::{b::{self, B as Other}, c::C}; pub struct A;",
            "b.rs": "pub struct B; fn f() { crate::a::A; }",
            "c.rs": "pub struct C;",
        },
        ["a.rs b.rs"],
    ),
    "through a re-export": (
        {
            "lib.rs": "mod m; mod a; pub use m::*;",
            "m/mod.rs": "mod b; pub(crate) use b::B;",
            "m/b.rs": "use crate::a::A; pub struct B;",
            "a.rs": "use crate::B; pub struct A;",
        },
        ["a.rs m/b.rs"],
    ),
    "by super": (
        {
            "lib.rs": "mod m;",
            "m/mod.rs": "mod a; mod b; pub struct M; fn f() { a::run(); }",
            "m/a.rs": "use super::M; pub fn run() {} mod inner { fn g() { super::super::b::run(); } }",
            "m/b.rs": "use super::a; pub fn run() { a::run() }",
        },
        ["m/a.rs m/b.rs m/mod.rs"],
    ),
    "a foreign type has a function of that name, too": (
        {
            "lib.rs": "mod a; mod b;",
            "a.rs": "use other::Z; pub struct A; impl A { fn go(&self) { Z::search(); } }",
            "b.rs": "use crate::a::A; impl A { fn search() {} }",
        },
        [],
    ),
    "by a function of a type": (
        {
            "lib.rs": "mod a; mod b;",
            "a.rs": "pub struct A; impl A { fn go(&self) { A::search(); } }",
            "b.rs": "use crate::a::A; impl A { fn search() {} }",
        },
        ["a.rs b.rs"],
    ),
    "by a method": (
        {
            "lib.rs": "mod a; mod b;",
            "a.rs": "pub struct A; impl A { fn go(&self) { self.search(); } }",
            "b.rs": "use crate::a::A; impl<T: Fn() -> A> From<T> for A { fn from(f: T) -> A { f() } }"
            " impl A { fn search(&self) {} }",
        },
        ["a.rs b.rs"],
    ),
    "through the path of a mod": (
        {
            "lib.rs": 'mod a; #[cfg(unix)] #[path = "x/mod.rs"] mod arch;'
            ' #[cfg(not(unix))] #[path = "y.rs"] mod arch;',
            "x/mod.rs": "mod deep; pub use deep::ROWS;",
            "x/deep.rs": "pub static ROWS: [crate::a::Row; 1] = [crate::a::Row];",
            "y.rs": "pub static ROWS: [u8; 0] = [];",
            "a.rs": "use crate::arch; pub struct Row; fn f() { arch::ROWS; }",
        },
        ["a.rs x/deep.rs"],
    ),
    "two": (
        {
            "lib.rs": "mod a; mod b; mod c; mod d; macro_rules! up { () => { $crate::d::d() } }",
            "a.rs": "use super::b::b; pub fn a() {}",
            "b.rs": "use super::a::*; pub fn b() { a() }",
            "c.rs": "pub use crate::d::d as c; pub fn e() { c(); }",
            "d.rs": "pub fn d() { up!(); crate::c::e() }",
        },
        ["a.rs b.rs", "c.rs d.rs lib.rs"],
    ),
}


def self_test():
    for name, (files, expected) in TESTS.items():
        with tempfile.TemporaryDirectory() as folder:
            src = pathlib.Path(folder)
            for file, text in files.items():
                (src / file).parent.mkdir(exist_ok=True)
                (src / file).write_text(text)
            crate = Crate(src)
            found = [" ".join(str(file.relative_to(src)) for file in circle) for circle in crate.circles()]
            assert found == expected, f"{name}: found {found}, not {expected}"
            if name == "none":
                assert crate.against("a < b") == ([], [])
                assert crate.against("b < a") == ([], [(src / "b.rs", src / "a.rs")])
                assert crate.against("a") == (["b"], [])
    print(f"{len(TESTS)} crates, each with the circles that it has")


if __name__ == "__main__":
    if sys.argv[1:] == ["--self-test"]:
        sys.exit(self_test())
    os.chdir(pathlib.Path(__file__).parent.parent)
    sys.exit(1 if sum(check(pathlib.Path(src)) for src in sys.argv[1:] or ORDER) else 0)
