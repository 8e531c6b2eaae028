#!/usr/bin/env bash
# A sweep on Slurm. This job is the launcher: it needs little and runs long. It submits the workers as a job array and
# waits for them.
#   sbatch deploy/slurm/sweep.sh NAME postgresql://USER:PASSWORD@HOST/studies http://HOST:5000
# All nodes share the file system with the checkout and tracking.root. Submit the same command again to resume.
#SBATCH --job-name=segtune
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --time=3-00:00:00
#SBATCH --signal=B:TERM@120
set -euo pipefail
name=$1 storage=$2 tracking=$3

# exec: Slurm's TERM reaches segtune itself, which tells the workers to return their trials to the queue
exec .venv/bin/segtune sweep "$name" \
  sweep.launcher=slurm sweep.workers=8 sweep.cpus=8 sweep.gpus=1 \
  "sweep.slurm={slurm_partition: gpu, timeout_min: 720, mem_gb: 32}" \
  "sweep.storage=$storage" "tracking.uri=$tracking"
