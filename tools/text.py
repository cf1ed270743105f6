#!/usr/bin/env python3
"""Checks the text of all files in git: the width of lines, and what a reader could not follow.

    tools/text.py [PATH ...]           files or folders; the whole tree if none is given

No line is wider than 110 columns, but for rows of Markdown tables and lines with an address. Nothing points
at files outside the repository or at the number of an issue. An equation's number stands once in
docs/math*.md, and there is one for each that is cited. Exits with 1 if there is anything to mend.
"""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent
WIDTH = 110
FILES = ["*.rs", "*.md", "*.py", "*.sh", ".ci/*"]
ELSEWHERE = {
    "names a file outside the repository": re.compile(r"(?<![\w/])(?:\.\./)*share[d]/|/wor[k]/"),
    "names an issue by its number": re.compile(r"\b[Ii]ssues? #?\d"),
}
EQUATION = re.compile(r"^    .*\((\d+[a-z]?)\)$", re.MULTILINE)
CITED = re.compile(r"\b[Ee]qs?\. ((?:\d+[a-z]?(?:–|, | and | to )?)+)")


def equations():
    """The numbers of the equations, in order."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("docs/math*.md"))]
    return [equation for text in texts for equation in EQUATION.findall(text)]


def faults(path, known):
    """What is wrong in a file, as (line number, message)."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        table = path.suffix == ".md" and line.startswith("|")
        if len(line) > WIDTH and not table and "https://" not in line:
            yield number, f"{len(line)} columns"
        for message, pattern in ELSEWHERE.items():
            if pattern.search(line):
                yield number, message
        for cited in CITED.findall(line):
            for equation in re.findall(r"\d+[a-z]?", cited):
                if equation not in known:
                    yield number, f"eq. {equation} is not in docs/math*.md"


def main():
    paths = [str(pathlib.Path(path).resolve()) for path in sys.argv[1:]] or ["."]
    git = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *paths]
    names = subprocess.run(git, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    files = {ROOT / name for name in names.split("\0") if name}
    files = sorted(file for file in files if file.is_file() and any(file.match(kind) for kind in FILES))
    numbers = equations()
    known = {*numbers, *(number.rstrip("ab") for number in numbers)}  # eq. 2 is 2a and 2b
    found = [(file.relative_to(ROOT), *fault) for file in files for fault in faults(file, known)]
    twice = sorted({number for number in numbers if numbers.count(number) > 1})
    found += [("docs/math*.md", 0, f"eq. {number} stands twice") for number in twice]
    for name, number, message in found:
        print(f"{name}:{number}: {message}")
    print(f"text: {len(files)} files, {len(found)} faults")
    return 1 if found or not files else 0


if __name__ == "__main__":
    sys.exit(main())
