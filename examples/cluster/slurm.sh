#!/bin/bash
# One run on a Slurm cluster:  sbatch slurm.sh [any options of `sunflower run`]
# Ray is started on all nodes of the allocation; the driver runs on the first. The environment
# with `pip install 'sunflower-fl[cluster]'` is on a folder that all nodes see, as are the runs.
#SBATCH --job-name=sunflower
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=04:00:00
#SBATCH --output=sunflower-%j.log
# For GPUs:  #SBATCH --gpus-per-node=2   and below  --client-gpus 1
set -euo pipefail

ENVIRONMENT="${ENVIRONMENT:-$HOME/sunflower-env}" # a virtual environment
OUT="${OUT:-$SLURM_SUBMIT_DIR/runs/$SLURM_JOB_ID}"
PORT=6379

source "$ENVIRONMENT/bin/activate"
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head="${nodes[0]}"
cpus="${SLURM_CPUS_ON_NODE:-$(nproc)}"

# Ray gives silent connections up after 15 s (docs/clusters.md, What to tell Ray before it starts).
export RAY_grpc_client_keepalive_time_ms=10000 RAY_grpc_client_keepalive_timeout_ms=5000

# `--block` keeps each step alive; Slurm ends them with the job.
srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" \
  ray start --head --port="$PORT" --num-cpus="$cpus" --block &
sleep 20
if [ "${#nodes[@]}" -gt 1 ]; then
  rest="$(IFS=,; echo "${nodes[*]:1}")"
  srun --overlap --nodes="$((${#nodes[@]} - 1))" --ntasks-per-node=1 --nodelist="$rest" \
    ray start --address="$head:$PORT" --num-cpus="$cpus" --block &
  sleep 20
fi

# Nodes that are late get workers when they join.
srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" \
  sunflower run --address "$head:$PORT" --out "$OUT" "$@"
