#!/usr/bin/env bash
# A Ray cluster of machines that share the checkout. Start the head first, then join from every other machine.
#   deploy/ray/start.sh head
#   deploy/ray/start.sh join HEAD_ADDRESS:6379
# Then, on any of them:
#   RAY_ADDRESS=auto segtune sweep NAME sweep.launcher=ray sweep.workers=16 sweep.cpus=4 sweep.gpus=0.5 \
#     sweep.storage=postgresql://USER:PASSWORD@HOST/studies tracking.uri=http://HOST:5000
set -euo pipefail
case ${1:-} in
  head) exec .venv/bin/ray start --head --port=6379 --dashboard-host=127.0.0.1 ;;
  join) exec .venv/bin/ray start --address="${2:?give HEAD_ADDRESS:6379}" ;;
  *) echo "usage: $0 head | join HEAD_ADDRESS:6379" >&2; exit 2 ;;
esac
