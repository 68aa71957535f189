#!/usr/bin/env bash
# Keskar et al. 2017, figure 2 and appendix: the loss between the small- and the large-batch minimum, straight and on the
# arc, with seed 0. Statistics of batch norm are recomputed at each point from 10,000 training images.
#     studies/keskar.sh STUDY RESULTS     the study's folder, and where the results go
set -euo pipefail
study=$1 results=$2
small=$(landscape study runs "$study" --where batch_size=256 --where seed=0)
large=$(landscape study runs "$study" --where batch_size=6000 --where seed=0)
for path in line arc; do
    landscape surface line "$small" "$large" --path "$path" --recompute-examples 10000 --batch-size 2000 \
        -o "$results/keskar-$path.safetensors" --overwrite
done
