#!/usr/bin/env bash
# Edge of stability: full-batch gradient descent and SAM on the digits, λ₁ at every fiftieth step.
#     studies/edge.sh RUNS RESULTS     run folders and result files; what is there already goes on
set -euo pipefail
runs=$1 results=$2
for setting in "0.1 0" "0.13 0" "0.16 0" "0.1 0.02" "0.1 0.05" "0.1 0.1"; do
    read -r rate rho <<<"$setting"
    landscape train "$runs/lr$rate-rho$rho" --data digits --model mlp --model-arg widths=64,64 \
        --model-arg activation=tanh --loss square --batch-size 1437 --momentum 0 --lr "$rate" --rho "$rho" \
        --epochs 3000 --save-every 50
    landscape track "$runs/lr$rate-rho$rho" --loss square --count 1 -o "$results/edge-lr$rate-rho$rho.safetensors"
done
