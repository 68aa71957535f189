"""An epoch of several processes: whose dropout is whose, and what they found together."""

import torch

from landscape.training.outcome import Average
from landscape.training.prepare import Training
from landscape.training.processes import copy_from_first, sum_numbers


def rank_name(training: Training) -> tuple[object, ...]:
    """What a process adds to the name of its dropout's stream: nothing when it trains alone, else its rank.

    Otherwise all processes would drop the same units in different examples.
    """
    return ("rank", torch.distributed.get_rank()) if training.spec.data_parallel else ()


def gather(training: Training, average: Average) -> None:
    """At an epoch's end: the averages over all processes, and the buffers of rank 0.

    Batch-norm statistics are those of rank 0's shares of the batches, as in torch's DistributedDataParallel.
    """
    if not training.spec.data_parallel:
        return
    sums = torch.stack([average.total, average.hits, average.total.new_tensor(average.count)])
    average.total, average.hits, count = sum_numbers(sums).unbind()
    average.count = round(count.item())
    copy_from_first(training.model)
