#!/bin/bash
# A search on an allocation of Slurm: Ray on each of its nodes for as long as the search takes, then nothing.
#
#   sbatch cluster/slurm.sh my.yaml --storage /SHARED/runs     # everything behind the script goes to search.py
#   scancel --batch --signal=TERM JOB                          # ends it with everything saved; the same sbatch goes on
#
# The project lies in ~/finesearch, set up by `make venv` there, on every node (most sites share the home); runs and data in
# a folder that all nodes mount. Exit status of the job: that of the search.
#
# A PRIVATE NETWORK IS REQUIRED: Ray's own ports listen on all interfaces, metrics without any authentication. The
# dashboard listens on the first node's loopback alone and asks for the token in ~/.ray/auth_token.
#
#SBATCH --job-name=finesearch
#SBATCH --output=finesearch-%j.log
#SBATCH --nodes=2                # FILL IN how many
#SBATCH --cpus-per-task=8        # FILL IN the CPUs of a node
##SBATCH --gpus-per-node=1       # FILL IN the GPUs of a node, with one '#' less, where there are any
##SBATCH --partition=gpu         # FILL IN likewise, where your site asks for it, as for --account
#SBATCH --time=08:00:00          # FILL IN; two minutes before its end the search saves, and the same sbatch goes on
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive              # Ray takes whole nodes, and stopping it stops every Ray of yours there
#SBATCH --signal=B:TERM@120
set -euo pipefail

# shellcheck source=/dev/null
. ~/finesearch/.venv/bin/activate
(umask 077; mkdir -p ~/.ray; [ -s ~/.ray/auth_token ] || head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >~/.ray/auth_token)
chmod 600 ~/.ray/auth_token
# The other nodes may have other homes.
RAY_AUTH_TOKEN=$(cat ~/.ray/auth_token)
export RAY_AUTH_TOKEN RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
# Ray writes its own dashboards for Grafana beside ours.
export RAY_METRICS_GRAFANA_DASHBOARD_OUTPUT_DIR=~/finesearch/cluster/grafana
# Nodes that load their environment over a busy network come late.
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300
# Nobody else's, whoever used /tmp/ray before.
export RAY_TMPDIR="/tmp/finesearch-$SLURM_JOB_ID"

# The address of this node, which is the head; by its name the others might find another interface.
ip=$(getent ahostsv4 "$(hostname)" | awk '$1 !~ /^127\./ { print $1; exit }') || true
ip=${ip:-$(hostname -I | awk '{ print $1 }')}
export FINESEARCH_HEAD="$ip:6379"
FINESEARCH_STATE=$(mktemp -d)
export FINESEARCH_STATE
trap 'rm -rf "$FINESEARCH_STATE"' EXIT

# What every node runs: Ray, until the search has ended, which only the head runs.
# shellcheck disable=SC2016 # expanded there
node='mkdir -p -m 700 "$RAY_TMPDIR" && exec ray symmetric-run --address "$FINESEARCH_HEAD" --min-nodes "$SLURM_NNODES" \
    --num-cpus "$SLURM_CPUS_PER_TASK" --dashboard-host=127.0.0.1 -- bash -c "$0" "$@"'
# shellcheck disable=SC2016
search='RAY_ADDRESS=$FINESEARCH_HEAD python ~/finesearch/platform/search.py "$@" & echo $! >"$FINESEARCH_STATE/process"
    wait $!; echo $? >"$FINESEARCH_STATE/status"'

# `srun` tells of the nodes, where a worker that ends with its head is a failure; what counts is written by the head.
# --wait: the others are ended when the head has ended.
srun --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" --wait=5 --kill-on-bad-exit=0 \
    bash -c "$node" "$search" search "$@" &
# Slurm's word that the time is up, or yours: the search alone is told, and saves while Ray still runs.
trap 'kill -TERM "$(cat "$FINESEARCH_STATE/process")" || true' TERM
while kill -0 $! 2>/dev/null; do wait $! || true; done

status=$(cat "$FINESEARCH_STATE/status" 2>/dev/null || true)
[ -n "$status" ] || echo "slurm.sh: Ray did not start on all $SLURM_NNODES nodes; see above." >&2
exit "${status:-1}"
