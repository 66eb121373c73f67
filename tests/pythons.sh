#!/usr/bin/env bash
# Runs the unit tests and those of TLS on every other Python of this machine, from 3.11 on: `make test-pythons`.
#
# Each minor version is tested once, with the first interpreter that PATH or pyenv has. The image's version has to be
# among them: where this machine has none, the tests run in the Debian base of the image test.
set -euo pipefail
cd "$(dirname "$0")/.."
image_version=3.13
tests=(
  tests/unit tests/integration/test_tls.py tests/integration/test_client_certificates.py tests/operate/test_tracing.py
  tests/security/test_upstream_tls.py
)

# fail MESSAGE
fail() {
  echo "test-pythons: $1" >&2
  exit 1
}

# version PYTHON: its minor version; nothing for a shim that leads nowhere, and for Pythons without wheels.
version() {
  "$1" 2>/dev/null -c '
import sys, sysconfig
released = sys.implementation.name == "cpython" and sys.version_info.releaselevel == "final"
if released and sys.version_info >= (3, 11) and not sysconfig.get_config_var("Py_GIL_DISABLED"):
    print("%d.%d" % sys.version_info[:2])' || true
}

# interpreters: whatever is called like one, on PATH first.
interpreters() {
  local directories
  IFS=: read -ra directories <<<"$PATH"
  shopt -s nullglob
  for directory in "${directories[@]}"; do printf '%s\n' "$directory"/python3.[1-9][0-9]; done
  printf '%s\n' "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python3.[1-9][0-9] | sort --version-sort --reverse
}

# run_tests PIP PYTHON DIRECTORY: in a virtual environment at DIRECTORY, which is kept while the lock file stays as it is.
# PIP is the package itself, of any Python.
run_tests() {
  local pip=$1 python=$2 directory=$3 stamp
  stamp="$(sha256sum requirements-test.lock pyproject.toml) $("$python" -VV)"
  if [[ $(cat "$directory/stamp" 2>/dev/null) != "$stamp" ]]; then
    rm -rf "$directory"
    "$python" -m venv --without-pip "$directory"
    cp -R "$pip" "$directory"/lib/python3.*/site-packages/  # Debian has neither pip nor ensurepip beside its Python
    local install=("$directory/bin/python" -m pip install --quiet --disable-pip-version-check --root-user-action ignore)
    "${install[@]}" --require-hashes -r requirements-test.lock
    "${install[@]}" --no-deps --no-build-isolation -e .
    echo "$stamp" >"$directory/stamp"
  fi
  "$directory/bin/python" -VV
  "$directory/bin/python" -m pytest -n auto --dist loadfile -p no:cacheprovider -q "${tests[@]}"
}

# run_in_base OWN PIP: in a mount namespace, so that nothing stays mounted.
run_in_base() {
  local base='from tests.tools.build import build; from tests.tools.catalogue import BASE; ' archive root
  "$1" -c "$base raise SystemExit(bool(build([BASE])))" \
    || fail "no Python $image_version: install it (PATH or pyenv), or run as root with debootstrap"
  archive=$("$1" -c "$base print(BASE.archive)")
  root=$(mktemp --directory)
  trap "rm -rf --one-file-system ${root@Q}" EXIT
  tar --extract --file "$archive" --directory "$root"
  unshare --mount --propagation private -- "$PWD/tests/pythons.sh" --below "$root" "$2"
}

# run_below ROOT PIP: with the files of another system, and of this one what the network and the tests need.
run_below() {
  local root=$1 place
  for place in /dev /proc /sys /etc/hosts /etc/pip.conf /etc/resolv.conf /etc/ssl/certs "$PWD"; do
    [[ -e $place ]] || continue
    mkdir -p "$(dirname "$root$place")"
    if [[ -d $place ]]; then mkdir -p "$root$place"; else touch "$root$place"; fi
    mount --rbind "$place" "$root$place"
  done
  exec chroot "$root" "$PWD/tests/pythons.sh" --run "$2" /usr/bin/python3 .cache/pythons/base
}

case ${1:-} in
  --below) run_below "$2" "$3" ;;
  --run) run_tests "$2" "$3" "$4" ;;
  *)
    own=${1:-.venv/bin/python}
    pip=$("$own" -c 'import pip; print(pip.__path__[0])')
    own_version=$(version "$own")
    declare -A seen=(["${own_version:-other}"]=$own)
    mapfile -t candidates < <(interpreters)
    for python in "${candidates[@]}"; do
      found=$(version "$python")
      [[ -n $found && -z ${seen[$found]:-} ]] || continue
      seen[$found]=$python
      run_tests "$pip" "$python" ".cache/pythons/$found"
    done
    [[ -n ${seen[$image_version]:-} ]] || run_in_base "$own" "$pip"
    ;;
esac
