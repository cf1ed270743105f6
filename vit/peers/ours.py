"""Our own figures, from a command that prints JSON."""
import json
import shlex
import subprocess


def objects(text: str):
    """Every JSON object in the output: one a line, or one document of nested lists and objects."""
    try:
        documents = [json.loads(text)]
    except json.JSONDecodeError:
        documents = [json.loads(line) for line in text.splitlines() if line.lstrip().startswith("{")]
    while documents:
        document = documents.pop(0)
        if isinstance(document, list):
            documents = document + documents
        elif isinstance(document, dict):
            yield document
            documents = [inner for inner in document.values() if isinstance(inner, (list, dict))] + documents


shares: dict[str, float] = {}
"""Per cent of the time that each kind of operation takes, as the last measurement had it."""


def measure(command: str, threads: int) -> dict[tuple[int, str], float]:
    """{(bits, what else tells rows apart): milliseconds} of rows with batch 1 and these threads."""
    try:
        done = subprocess.run(shlex.split(command), capture_output=True, text=True)
    except OSError as error:
        raise SystemExit(f"{command}: {error}") from None
    if done.returncode != 0:
        raise SystemExit(f"{command}: exit code {done.returncode}: {done.stderr.strip()[-400:]}")
    rows = {}
    for row in objects(done.stdout):
        if "operation" in row and row.get("threads", threads) == threads:
            shares[row["operation"]] = float(row["percent"])
        if "bits" not in row or "med_ms" not in row:
            continue
        if row.get("batch", 1) != 1 or row.get("threads", threads) != threads:
            continue
        known = ("bits", "batch", "threads")
        labels = [f"{name} {value}" for name, value in row.items()
                  if name not in known and isinstance(value, (str, bool))]
        key = int(row["bits"]), ", ".join(labels)
        # rows that only numbers tell apart: the fastest stands for them
        rows[key] = min(rows.get(key, float("inf")), float(row["med_ms"]))
    if not rows:
        raise SystemExit(f"{command}: no row with bits, med_ms, batch 1 and {threads} threads in its output")
    return rows
