#!/usr/bin/env bash
# Write label maps for token labeling as a slurm job.
#   [GPUS=8] [GPUS_PER_NODE=8] [CPUS_PER_TASK=5] [SRUN_ARGS='...'] \
#     tools/slurm_generate_token_labels.sh PARTITION JOB_NAME CONFIG CHECKPOINT OUT [arguments of the .py]
set -euo pipefail
source "$(dirname "$0")/launch.sh"
[ $# -ge 5 ] ||
  usage "PARTITION JOB_NAME CONFIG CHECKPOINT OUT [arguments of tools/generate_token_labels.py]"
slurm_run generate_token_labels.py "$1" "$2" "$3" "$4" "$5" "${@:6}"
