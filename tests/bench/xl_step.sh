#!/bin/sh
# One full-parameter training step of flan-t5-xl's shape (2.85 B parameters) in less than 20 GiB: BF16, Adafactor, updates fused into the
# backward pass, recomputation, 512 + 128 tokens. Prints the figures of `reasondistill bench train` and fails where the peak of
# resident memory is higher. A step to warm up comes first; minutes in all.
#
#     tests/bench/xl_step.sh build/src/reasondistill
set -eu
figures=$(env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE "$1" bench train --shape flan-t5-xl --batch 1 --enc 512 --dec 128 --dtype bf16 \
    --optimizer adafactor --fused --recompute --steps 1)
echo "$figures"
echo "$figures" | python3 -c 'import json, sys
f = json.load(sys.stdin)
print("%.2f GiB resident at most, %.1f s a step" % (f["peak_rss_bytes"] / 2**30, f["seconds"]))
sys.exit(f["peak_rss_bytes"] > 20 * 2**30)'
