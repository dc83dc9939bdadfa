#!/bin/bash
# A sweep as a SLURM array: each task takes its share of the runs and continues after a requeue.
#
#   sbatch --array=0-7 launch/batch/slurm_array.sh configs/sweeps/digits.py runs/digits
#
# The work directory must be on a file system that all nodes see. Submitted again, finished cells
# are skipped and failed ones tried again; a part of the array needs the whole number beside it:
#   NUM_TASKS=8 sbatch --array=3,5 launch/batch/slurm_array.sh ...
#SBATCH --job-name=gencls-sweep
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --gpus=1
#SBATCH --time=12:00:00
#SBATCH --requeue
# Two minutes before the end: training saves, locks are given back, then the exit code is 143.
#SBATCH --signal=B:TERM@120
#SBATCH --output=slurm-%A_%a.log
set -euo pipefail

config=${1:?the sweep, for example configs/sweeps/digits.py}
workdir=${2:?the folder of the sweep}

# Index and number are read from SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT. `exec`: the signal
# must reach Python and not this shell.
exec "${PYTHON:-python}" launch/sweep.py --config="$config" --workdir="$workdir" \
  --num_tasks="${NUM_TASKS:-$SLURM_ARRAY_TASK_COUNT}"
