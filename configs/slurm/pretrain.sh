#!/bin/bash
# A run of any length under SLURM. Two minutes before its time is up, or when it has to make room, the job saves where
# it is, goes back into the queue, and continues when it is its turn again. Nothing else is needed:
#   sbatch configs/slurm/pretrain.sh configs/pretrain/rnacentral.yaml [options of rnafm fit]
# Adapt nodes, GPUs, time and account; all parts of the job write one log, and to runs/job-<number>.
#SBATCH --job-name=rnafm
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=USR1@120
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -eu

recipe=$1
shift
# To all processes and not to this shell goes USR1. The number of the job stays the same when it is requeued, so that
# "auto" finds this run and no other; and last.ckpt is never older than a thousand steps if a machine dies.
exec srun --kill-on-bad-exit=1 rnafm fit \
  --config "$recipe" \
  --config configs/trainer/slurm.yaml \
  --trainer.num_nodes "$SLURM_JOB_NUM_NODES" \
  --trainer.devices "$SLURM_NTASKS_PER_NODE" \
  --trainer.logger.init_args.save_dir "runs/job-$SLURM_JOB_ID" \
  --trainer.callbacks+=rnafm.callbacks.SaveLast --trainer.callbacks.every_n_steps=1000 \
  --ckpt_path auto \
  "$@"
