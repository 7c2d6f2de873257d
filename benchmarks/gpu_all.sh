#!/bin/sh
# All that a GPU can tell of funcnn, in ten minutes: a training, the tests, the kernels and the benchmarks.
#
#     sh benchmarks/gpu_all.sh            writes into build/gpu, or into the folder $OUT
#     DRY=1 sh benchmarks/gpu_all.sh      without a GPU, on the stand-in for CuPy: to try the script out
#
# It runs from the repository's root without installing the package, by the python3 (or $PYTHON) that has CuPy and
# PyTorch. What that lacks is installed from the wheels in ./wheels if there are such, else by pip as it is set up. Each part
# has its own time limit, so that one that hangs leaves the others their time.
cd "$(dirname "$0")/.." || exit 1
out=${OUT:-build/gpu}
python=${PYTHON:-python3}
mkdir -p "$out" || exit 1
export PYTHONPATH=. PYTHONUNBUFFERED=1
device=cuda dry='' failed=''
if [ -n "${DRY:-}" ]; then
    device=standin dry=--dry
    export FUNCNN_TEST_DEVICE=standin
fi

# part NAME SECONDS COMMAND...: run it into $out/NAME.log, and say how it went
part() {
    name=$1 limit=$2
    shift 2
    started=$(date +%s)
    timeout --kill-after 5 "$limit" "$@" >"$out/$name.log" 2>&1
    code=$?
    echo "$name: exit code $code after $(($(date +%s) - started)) s" | tee -a "$out/summary.txt"
    tail -n "${shown:-3}" "$out/$name.log" | sed 's/^/    /' | tee -a "$out/summary.txt"
    [ $code -eq 0 ] || failed="$failed $name"
}

needed='attrs safetensors threadpoolctl pytest hypothesis'
missing=''
for each in $needed; do
    module=$each
    [ "$each" = attrs ] && module=attr
    "$python" -c "import $module" 2>/dev/null || missing="$missing $each"
done
if [ -n "$missing" ]; then
    if [ -d wheels ]; then
        # shellcheck disable=SC2086
        "$python" -m pip install --no-index --find-links wheels $missing
    else
        # shellcheck disable=SC2086
        "$python" -m pip install $missing
    fi
fi
{
    date
    nvidia-smi
    "$python" --version
    "$python" -m pip list 2>/dev/null | grep -i -E 'cupy|torch|numpy|attrs|safetensors|threadpoolctl|pytest|nvidia-'
} >"$out/summary.txt" 2>&1

if [ "$device" = cuda ]; then
    part demo 60 "$python" -m funcnn demo --device cuda --quick --no-plots --out "$out/run"
    rm -rf "$out/run" # its settings are in the log
fi
workers=''
"$python" -c 'import xdist' 2>/dev/null && [ "$device" = cuda ] && workers='-n 8' # most of the time kernels are compiled
# Warnings of another version of CuPy or NumPy are shown, and are no failures here.
# shellcheck disable=SC2086
part tests 200 "$python" -m pytest -q -W default $workers tests/gpu tests/cuda
shown=40
part speed 140 "$python" benchmarks/gpu.py $dry --parts steps gpt predict cifar10 --rounds 7 --turn 0.05 --json "$out/speed.json"
part kernels 90 "$python" benchmarks/gpu.py $dry --parts kernels --rounds 5 --turn 0.02 --json "$out/kernels.json"
[ "$device" = cuda ] && part tiles 80 "$python" benchmarks/cuda_kernels.py
echo "in $out: $(ls "$out" | tr '\n' ' ')"
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
