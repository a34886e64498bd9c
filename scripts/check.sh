#!/bin/sh
# All checks, the same by hand and in CI: format, lint, types, tests, docs, and the wheel from outside the clone.
set -eu
BIN=${BIN:-.venv/bin}
"$BIN"/ruff format --check .
"$BIN"/ruff check .
"$BIN"/mypy
"$BIN"/pytest -q -n 2 --dist loadfile
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$BIN"/sphinx-build -q -E -W --keep-going docs "$work/site"
"$BIN"/python -m build --quiet --wheel --outdir "$work" .
"$BIN"/pip install --quiet --disable-pip-version-check --no-deps --target "$work/site" "$work"/*.whl
python=$(pwd)/$BIN/python
(cd / && PYTHONPATH="$work/site" "$python" - <<'PY'
import rnafm, rnafm.training, rnafm.cli, rnafm.checkpoints
assert "site/rnafm" in rnafm.__file__, rnafm.__file__
rnafm.cli.main(["--help"])
PY
) > /dev/null
echo "wheel: imports and --help work outside the clone"
