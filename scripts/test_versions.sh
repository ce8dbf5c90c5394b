#!/usr/bin/env bash
# Runs the tests that depend on versions (marked `versions`), each time in a fresh environment, and
# writes what passed into docs/versions.json and docs/versions.md.
#
#   scripts/test_versions.sh                      all rows
#   scripts/test_versions.sh torch-2.8 newest     these rows; the others stay in the table
#   scripts/test_versions.sh --keep DIR newest    the environment stays in DIR; nothing is written
#
# An environment takes up to 7 GB, and is removed after its tests. A cap on versions that pip's
# configuration sets on a machine is lifted by PIP_CONFIG_FILE=/dev/null.
set -euo pipefail
cd "$(dirname "$0")/.."

# name | Python | what pip is given beside `.[versions]`
ROWS='pinned           | 3.11 | --constraint constraints.txt
newest           | 3.11 |
torch-2.8        | 3.11 | torch==2.8.*
torch-2.9        | 3.11 | torch==2.9.*
torch-2.10       | 3.11 | torch==2.10.*
torch-2.11       | 3.11 | torch==2.11.*
torch-2.12       | 3.11 | torch==2.12.*
torch-2.15       | 3.11 | torch==2.15.*
transformers-5.0 | 3.11 | transformers==5.0.*
python-3.10      | 3.10 |
python-3.12      | 3.12 |
python-3.13      | 3.13 |
python-3.14      | 3.14 |'

TESTS=(tests/calibration tests/common tests/hooks tests/inference tests/integrations tests/kernels
  tests/penalties tests/thresholds)

keep=
if [ "${1-}" = --keep ]; then
  keep=$2
  shift 2
fi
names=("$@")

python_of() { # a Python of this version that runs: on the PATH, or of pyenv
  for candidate in "$(command -v "python$1")" ~/.pyenv/versions/"$1".*/bin/python python3; do
    if [ "$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$1" ]
    then
      echo "$candidate"
      return
    fi
  done
  return 1
}

wanted() { # whether a row was named, or none was
  [ ${#names[@]} -eq 0 ] || printf '%s\n' "${names[@]}" | grep -qx "$1"
}

status=0
while IFS='|' read -r name version options; do
  name=$(echo $name) version=$(echo $version)
  wanted "$name" || continue
  if ! python=$(python_of "$version"); then
    echo "$name: there is no Python $version here" >&2
    continue
  fi
  environment=${keep:-.venv-versions/$name}
  echo "== $name: $environment"
  [ -x "$environment/bin/python" ] || "$python" -m venv "$environment"
  # shellcheck disable=SC2086 # several options
  "$environment/bin/python" -m pip install --quiet --no-compile --upgrade \
    --upgrade-strategy eager $options --editable '.[versions]'
  results=$environment/results.xml
  # what torch.compile has built for other environments is not for this one
  export TORCHINDUCTOR_CACHE_DIR=$(realpath "$environment")/inductor
  OMP_NUM_THREADS=1 "$environment/bin/python" -m pytest --numprocesses 2 -p no:cacheprovider \
    -m versions --junit-xml "$results" "${TESTS[@]}" || status=$?
  if [ -z "$keep" ]; then
    "$environment/bin/python" scripts/versions_table.py "$name" "$results"
    rm -rf "$environment"
  fi
done <<<"$ROWS"
exit $status
