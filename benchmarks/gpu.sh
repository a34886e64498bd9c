#!/usr/bin/env bash
# Everything that needs a GPU, in one call of at most eight minutes on a bare machine:
#
#   bash benchmarks/gpu.sh [--data FOLDER]   results: $OUT, or benchmarks/results
#   bash benchmarks/gpu.sh --dry             the same steps on a CPU with a tiny model, in a minute
#
# 1. pytest -m gpu   2. rates: matrix products, copy, packed attention at head_dim 32
# 3. training: rnafm eager and compiled in several budgets, its padded path, all peers, the first
#    row once more   4. inference, the same rows
# Each row is written when it is there, and each step has its own limit: what is killed keeps what
# it has. FOLDER holds ncrna.fa.gz; without it the sample in examples/ is used.
#
# Needed are Python 3.11 or later, torch 2.11 or later with CUDA, lightning, torchmetrics,
# matplotlib, networkx, rich, scikit-learn, safetensors, xxhash, pytest and hypothesis, for the peers
# transformers too; a package that is missing is a row that says so. Wheels in a folder .whl are
# installed first, for machines without a network. To fill it, where there is one:
#
#   python3 -m pip download --no-deps --only-binary=:all: --python-version 3.12 \
#     --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
#     --platform manylinux2014_x86_64 --platform manylinux1_x86_64 -d .whl \
#     pyfastx==2.3.1 jsonargparse==4.53.0 docstring-parser typeshed-client \
#     multimolecule==0.2.2 danling==0.4.8 rna-fm==0.2.2 chanfig lazy-imports datasets dill \
#     multiprocess torchdata python-frontmatter ptflops gitpython gitdb smmap
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

python=${PYTHON:-python3}
out=${OUT:-benchmarks/results}
device=cuda
small=()
data=()
while (($#)); do
  case $1 in
    --dry) device=cpu; small=(--small) ;;
    --data) data=(--data "${2:?--data needs a folder}"); shift ;;
    *) echo "unknown option $1; there are --dry and --data FOLDER" >&2; exit 2 ;;
  esac
  shift
done
mkdir -p "$out"

site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
if compgen -G '.whl/*.whl' >/dev/null; then
  "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade \
    --target "$site" .whl/*.whl || exit 1
fi
export PYTHONPATH=$PWD:$site${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false WANDB_MODE=offline OMP_WAIT_POLICY=PASSIVE

failed=()
step() { # name, seconds, command ...
  local name=$1 seconds=$2 start=$SECONDS
  shift 2
  echo "== $name (at most $seconds s): $*"
  timeout -k 10 "$seconds" "$@" || failed+=("$name")
  echo "== $name took $((SECONDS - start)) s"
}

if [[ $device == cuda ]]; then
  nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
  step tests 120 "$python" -m pytest -q -m gpu -W default -p no:cacheprovider tests/modules/test_gpu.py
else
  step tests 120 "$python" -m pytest -q -m gpu -p no:cacheprovider --collect-only tests/modules
fi
step rates 40 "$python" benchmarks/peers_rates.py --device "$device" --out "$out" "${small[@]}"
step training 220 "$python" benchmarks/peers.py --part training --device "$device" \
  --out "$out" --cap 8 --minutes 3.2 "${data[@]}" "${small[@]}"
step inference 95 "$python" benchmarks/peers.py --part inference --device "$device" \
  --out "$out" --cap 5 --minutes 1.2 "${data[@]}" "${small[@]}"

echo "== all took $SECONDS s; results are in $out"
if ((${#failed[@]})); then
  echo "== did not end well: ${failed[*]}" >&2
  exit 1
fi
