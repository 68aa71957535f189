"""All benchmarks, one after the other: `python -m benchmarks.run [--json]`."""

import torch

from benchmarks import density, eigenvalues, keskar

if __name__ == "__main__":
    torch.set_num_threads(1)
    for benchmark in (eigenvalues, density, keskar):
        benchmark.main()
