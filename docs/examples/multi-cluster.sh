#!/usr/bin/env bash
# One snapshot from each of several clusters, all at the same time.
#   docs/examples/multi-cluster.sh prod-us-east prod-eu-west staging
set -euo pipefail

contexts=()
for cluster in "$@"; do
    contexts+=(--context "$cluster")
done

exec "${EIDOS:-eidos}" snapshot --deploy-agent "${contexts[@]}" \
    --namespace "${NAMESPACE:-gpu-operator}" --image "${IMAGE:-ghcr.io/nvidia/eidos:latest}" \
    --timeout "${TIMEOUT:-10m}" --output 'snapshot-{context}.yaml'
