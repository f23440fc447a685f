#!/usr/bin/env bash
# Test as a slurm job.
#   [GPUS=8] [GPUS_PER_NODE=8] [CPUS_PER_TASK=5] [SRUN_ARGS='...'] \
#     tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of tools/test.py]
set -euo pipefail
source "$(dirname "$0")/launch.sh"
[ $# -ge 4 ] || usage "PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of tools/test.py]"
slurm_run test.py "$1" "$2" "$3" "$4" "${@:5}"
