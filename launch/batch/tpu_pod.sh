#!/bin/bash
# A sweep on a TPU pod slice, run on every host of it at once:
#
#   gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="cd gencls && \
#     launch/batch/tpu_pod.sh configs/sweeps/mnist_factorisations.py /mnt/runs/sweep"
#
# Trainings use all hosts together, one process each; evaluations are independent, and each host
# takes its share on its own chips. The work directory must be shared by the hosts (Filestore, NFS).
# The hosts are listed in TPU_WORKER_HOSTNAMES (a,b,c) and this one is number TPU_WORKER_ID, as TPU
# VMs and GKE set them.
set -euo pipefail

config=${1:?the sweep, for example configs/sweeps/mnist_factorisations.py}
workdir=${2:?the folder of the sweep}
python=${PYTHON:-python}
IFS=, read -r -a hosts <<< "${TPU_WORKER_HOSTNAMES:?the hosts of the slice, comma between}"
index=${TPU_WORKER_ID:?the number of this host}
sweep=(launch/sweep.py --config="$config" --workdir="$workdir")

# Every host goes through the same list, whose lines are quoted for a shell. A training that is
# finished ends at once.
"$python" "${sweep[@]}" --list=train | while read -r train; do
  eval "command=($train)"
  JAX_PLATFORMS=${JAX_PLATFORMS:-tpu} "${command[@]}" --coordinator="${hosts[0]}:8476" \
    --num_processes="${#hosts[@]}" --process_id="$index" < /dev/null
done

# From here on each host is a slice of its own; libtpu would otherwise wait for the others.
export TPU_PROCESS_BOUNDS=1,1,1 CLOUD_TPU_TASK_ID=0
exec "$python" "${sweep[@]}" --task_index="$index" --num_tasks="${#hosts[@]}"
