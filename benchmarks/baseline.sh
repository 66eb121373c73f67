#!/usr/bin/env bash
# Installs another revision into a virtual environment of its own, for `make bench BENCH_ARGS="--baseline VENV"`.
# Arguments: the Python to make it with, the revision, and the directory of all such environments.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1 directory=$3
commit=$(git rev-parse --verify --quiet --short=12 "$2^{commit}") || { echo "baseline: '$2' is not a commit: make baseline REV=<commit>" >&2; exit 1; }
venv=$directory/$commit

if ! [[ -e $venv/scope-proxy-revision ]]; then
  source=$(mktemp -d)
  trap 'rm -rf "$source"' EXIT
  git archive "$commit" | tar -x -C "$source"
  rm -rf "$venv"
  "$python" -m venv "$venv"
  pip=("$venv/bin/python" -m pip --disable-pip-version-check install --quiet)
  "${pip[@]}" --require-hashes -r "$source/requirements.lock"
  "${pip[@]}" --no-deps --no-build-isolation "$source"
  echo "$commit" > "$venv/scope-proxy-revision"
fi
echo "$venv has scope-proxy of $commit: make bench BENCH_ARGS=\"--baseline $venv\""
