#!/usr/bin/env bash
# Train on several GPUs of one or more machines, or in several processes of a CPU.
#   tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]
# Several machines: NNODES, NODE_RANK, MASTER_ADDR and PORT in the environment of each.
set -euo pipefail
source "$(dirname "$0")/launch.sh"
[ $# -ge 2 ] || usage "CONFIG PROCESSES [arguments of tools/train.py]"
dist_run train.py "$2" "$1" "${@:3}"
