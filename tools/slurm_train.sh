#!/usr/bin/env bash
# Train as a slurm job.
#   [GPUS=8] [GPUS_PER_NODE=8] [CPUS_PER_TASK=5] [SRUN_ARGS='...'] \
#     tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of tools/train.py]
set -euo pipefail
source "$(dirname "$0")/launch.sh"
[ $# -ge 4 ] || usage "PARTITION JOB_NAME CONFIG WORK_DIR [arguments of tools/train.py]"
slurm_run train.py "$1" "$2" "$3" --work-dir "$4" "${@:5}"
