#!/usr/bin/env bash
# Spectra and surfaces of the minima of SGD and of SAM with ρ = 0.1, seed 0, over 500 of the training images.
#     studies/sam-cifar10.sh STUDY RESULTS     the study's folder, and where the results go
set -euo pipefail
study=$1 results=$2
for rho in 0 0.1; do
    run=$(landscape study runs "$study" --where rho=$rho --where seed=0)
    landscape density "$run" --examples 500 --batch-size 500 \
        -o "$results/sam-cifar10-density-rho$rho.safetensors" --overwrite
    landscape surface random "$run" --points 25 --examples 500 --batch-size 500 \
        -o "$results/sam-cifar10-random-rho$rho.safetensors" --overwrite
done
