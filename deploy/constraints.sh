#!/bin/sh
# Writes deploy/constraints.txt anew: resolves pyproject.toml in an empty environment and notes what came out.
set -eu
cd "$(dirname "$0")/.."
deploy/bootstrap.sh venv

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"${PYTHON:-python3}" -m venv "$scratch"
pip="$scratch/bin/python -m pip --quiet --disable-pip-version-check"
$pip install --upgrade pip
# hatchling: the build of the project itself is held to the same file.
$pip install --editable . --group dev hatchling editables
{
    echo "# The exact versions that development, CI and the release images use: of the dependencies in pyproject.toml,"
    echo "# of theirs, and of the tools that build. Made by \`make constraints\`; do not edit by hand."
    $pip freeze --all --exclude-editable | grep -E '^[A-Za-z0-9._-]+==' | grep -vE '^(setuptools|wheel)=='
} >"$scratch/new"
mv "$scratch/new" deploy/constraints.txt
