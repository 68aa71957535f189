"""All benchmarks, one after the other: `python -m benchmarks.run [--json]`."""

import torch

from benchmarks import density, eigenvalues, keskar, trace

if __name__ == "__main__":
    torch.set_num_threads(1)
    for benchmark in (eigenvalues, density, trace, keskar):
        benchmark.main()
