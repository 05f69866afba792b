# Shared by the scripts: a virtual environment in .venv and pinned installs. No root needed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${PYTHON:-}
if [ -z "$python" ]; then
  for candidate in python3.11 python3.12 python3.13 python3; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      python=$candidate
      break
    fi
  done
fi
if [ -z "$python" ]; then
  echo "error: no Python 3.11 to 3.13 found" >&2
  echo "  fix: install one, or set PYTHON=/path/to/python" >&2
  exit 2
fi

# install LOCK: make .venv hold what the lock file names, and this checkout. Does nothing twice.
install() {
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  local stamp=.venv/.installed-$1
  local want
  want=$(cat "$1" pyproject.toml | cksum)
  if [ "$(cat "$stamp" 2>/dev/null)" != "$want" ]; then
    echo "installing $1 into .venv"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r "$1"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
    echo "$want" >"$stamp"
  fi
}
