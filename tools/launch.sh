# What dist_*.sh and slurm_*.sh share; they source it.

TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# The interpreter: $PYTHON, else that of the active environment, else that of `make setup`.
if [ -z "${PYTHON:-}" ]; then
  PYTHON=python
  if [ -z "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] && [ -x "$TOOLS/../.venv/bin/python" ]; then
    PYTHON="$TOOLS/../.venv/bin/python"
  fi
fi

usage() {
  echo "usage: $0 $1" >&2
  exit 2
}

# dist_run SCRIPT PROCESSES ARGUMENTS...
dist_run() {
  local script=$1 processes=$2
  shift 2
  [[ $processes =~ ^[1-9][0-9]*$ ]] || usage "...: the number of processes is not '$processes'"
  local place=(--standalone) # a free port, so that two jobs on a machine do not meet
  if [ "${NNODES:-1}" != 1 ] || [ -n "${PORT:-}" ]; then
    place=(--nnodes "${NNODES:-1}" --node_rank "${NODE_RANK:-0}"
      --master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "${PORT:-29500}")
  fi
  # Passed on to the processes, which then save a checkpoint and end.
  export TORCHELASTIC_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1
  exec "$PYTHON" "$TOOLS/torchrun.py" "${place[@]}" --nproc_per_node "$processes" \
    "$TOOLS/$script" "$@" --launcher pytorch
}

# slurm_run SCRIPT PARTITION JOB_NAME ARGUMENTS...
slurm_run() {
  local script=$1 partition=$2 job=$3
  shift 3
  local gpus=${GPUS:-8} per_node=${GPUS_PER_NODE:-8}
  # shellcheck disable=SC2086  # SRUN_ARGS holds several words
  exec srun -p "$partition" --job-name="$job" --gres="gpu:$per_node" --ntasks="$gpus" \
    --ntasks-per-node="$((gpus < per_node ? gpus : per_node))" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
    "$PYTHON" -u "$TOOLS/$script" "$@" --launcher slurm
}
