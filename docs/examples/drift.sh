#!/usr/bin/env bash
# Compares a GPU node with its baseline; the first run makes the baseline. Status 1 means drift.
#   docs/examples/drift.sh baseline.yaml
set -euo pipefail

baseline=${1:-baseline.yaml}
eidos=${EIDOS:-eidos}
current=$(mktemp)
trap 'rm -f "$current"' EXIT

"$eidos" snapshot --deploy-agent --namespace "${NAMESPACE:-gpu-operator}" \
    --node-selector "${NODE_SELECTOR:-nvidia.com/gpu.present=true}" \
    --image "${IMAGE:-ghcr.io/nvidia/eidos:latest}" --output "$current"

if [ ! -e "$baseline" ]; then
    cp "$current" "$baseline"
    echo "baseline written to $baseline"
    exit 0
fi
if "$eidos" diff "$baseline" "$current" --fail-on-drift; then
    echo "no drift"
else
    status=$?
    [ "$status" = 1 ] && echo "Configuration drift detected!"
    exit "$status"
fi
