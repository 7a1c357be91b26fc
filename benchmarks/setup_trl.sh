#!/usr/bin/env bash
# Makes benchmarks/.venv-trl: TRL 1.16 in an environment of its own, so that its pins cannot touch accord's.
# Idempotent: when the environment already holds exactly these versions, nothing is installed.
#
#   benchmarks/setup_trl.sh            PYTHON=python3.12 benchmarks/setup_trl.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

PYTHON="${PYTHON:-python3}"
VENV=.venv-trl
TORCH="torch==2.13.0"
# torch and transformers are those of accord's own environment: the comparison is of the training code.
REST=(
  "trl==1.16.0"
  "transformers==5.23.0"
  "accelerate==1.15.0"
  "datasets==5.2.0"
  "peft==0.21.2"
  "gguf==0.19.0"
)

if [[ -x $VENV/bin/python ]] && "$VENV/bin/python" - "$TORCH" "${REST[@]}" <<'PY'
import sys
from importlib.metadata import PackageNotFoundError, version
try:
    wrong = [pin for pin in sys.argv[1:] if version(pin.split("==")[0]).split("+")[0] != pin.split("==")[1]]
except PackageNotFoundError as error:
    wrong = [str(error)]
sys.exit(bool(wrong))
PY
then
  echo "benchmarks/$VENV is ready"
  exit 0
fi

[[ -x $VENV/bin/python ]] || "$PYTHON" -m venv "$VENV"
"$VENV/bin/python" -m pip install --quiet --upgrade pip
# torch goes first and alone: some indexes serve a small CPU build for exactly this version.
"$VENV/bin/python" -m pip install --quiet "$TORCH"
"$VENV/bin/python" -m pip install --quiet "$TORCH" "${REST[@]}"
"$VENV/bin/python" -c "import trl, transformers, torch; print('ready: trl', trl.__version__, '· transformers', transformers.__version__, '· torch', torch.__version__)"
