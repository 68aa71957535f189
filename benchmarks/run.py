"""All benchmarks that need no GPU, one after the other, on one thread: `python -m benchmarks.run [--json]`."""

import sys

import torch

from benchmarks import density, eigenvalues, ensemble, keskar, product, progressive, sam_step, surface, trace

if __name__ == "__main__":
    torch.set_num_threads(1)
    output = ["--json"] if "--json" in sys.argv else []
    product.main(["mlp", "gpt", "resnet", "--repeats", "5", *output])
    eigenvalues.main(["mlp", "gpt", "resnet", "--repeats", "3", *output])
    progressive.main(["--examples", "2000", *output])
    surface.main(["mlp", "resnet", "--repeats", "3", *output])
    sam_step.main(["--repeats", "7", *output])
    ensemble.main(output)
    for benchmark in (density, trace, keskar):
        benchmark.main()
