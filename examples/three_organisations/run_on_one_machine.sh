#!/bin/sh
# All three organisations on this machine, over TLS on loopback: certificates, data, run, ledgers.
# usage: run_on_one_machine.sh [FOLDER [ARGUMENTS OF train.py...]]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:-three_organisations_run}
[ $# -gt 0 ] && shift
parties="hospital clinic university"
PYTHON=${PYTHON:-python3}
spuvm() { "$PYTHON" -m spuvm.cli "$@"; }

mkdir -p "$folder"
cd "$folder"
"$PYTHON" -c 'import spuvm' 2>/dev/null || {
    echo "$PYTHON has no spuvm: pip install it, or name the Python that has it: PYTHON=.../bin/python $0" >&2
    exit 1
}
if [ ! -f certs/cluster.toml ]; then
    spuvm certs --parties hospital,clinic,university --out certs
    cat "$here/policy.toml" >> certs/cluster.toml
    "$PYTHON" "$here/make_data.py" data
fi

pids=""
for party in $parties; do
    spuvm run --party "$party" --cluster certs/cluster.toml "$here/train.py" "$@" \
        > "$party.log" 2>&1 &
    pids="$pids $!"
done
failed=0
for pid in $pids; do
    wait "$pid" || failed=1
done
for party in $parties; do
    echo "---- $party"
    cat "$party.log"
    spuvm ledger verify "certs/ledger-$party.jsonl"
done
exit $failed
