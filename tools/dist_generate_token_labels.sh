#!/usr/bin/env bash
# Write label maps for token labeling on several GPUs, or in several processes of a CPU.
#   tools/dist_generate_token_labels.sh CONFIG CHECKPOINT OUT PROCESSES [arguments of the .py]
# Several machines: NNODES, NODE_RANK, MASTER_ADDR and PORT in the environment of each.
set -euo pipefail
source "$(dirname "$0")/launch.sh"
[ $# -ge 4 ] || usage "CONFIG CHECKPOINT OUT PROCESSES [arguments of tools/generate_token_labels.py]"
dist_run generate_token_labels.py "$4" "$1" "$2" "$3" "${@:5}"
