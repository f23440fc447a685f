#!/usr/bin/env bash
# Test on several GPUs of one or more machines, or in several processes of a CPU.
#   tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [arguments of tools/test.py]
# Several machines: NNODES, NODE_RANK, MASTER_ADDR and PORT in the environment of each.
set -euo pipefail
source "$(dirname "$0")/launch.sh"
[ $# -ge 3 ] || usage "CONFIG CHECKPOINT PROCESSES [arguments of tools/test.py]"
dist_run test.py "$3" "$1" "$2" "${@:4}"
