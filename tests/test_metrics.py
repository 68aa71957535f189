"""The F1 score against its definition, written out class by class."""

import math

import numpy as np
import torch

from landscape.metrics import macro_f1


def by_hand(predictions: np.ndarray, labels: np.ndarray) -> float:
    scores = []
    for k in np.union1d(predictions, labels):
        right = np.sum((predictions == k) & (labels == k))
        precision = right / max(np.sum(predictions == k), 1)
        recall = right / max(np.sum(labels == k), 1)
        scores.append(0.0 if right == 0 else 2 * precision * recall / (precision + recall))
    return float(np.mean(scores))


def test_macro_f1_is_the_mean_over_classes_that_are_there():
    rng = np.random.default_rng(0)
    labels, outputs = rng.choice([0, 1, 2, 4], 300, p=[0.7, 0.2, 0.06, 0.04]), rng.normal(size=(300, 6))
    outputs[np.arange(300), labels] += 1.5
    outputs[:, [3, 5]] = -9.0  # never predicted, never a label: no class
    whole = [(torch.tensor(outputs), torch.tensor(labels))]
    expected = by_hand(outputs.argmax(1), labels)
    assert math.isclose(macro_f1(whole), expected, rel_tol=1e-6)
    parts = [(torch.tensor(outputs[k : k + 70]), torch.tensor(labels[k : k + 70])) for k in range(0, 300, 70)]
    assert macro_f1(parts) == macro_f1(whole)
    ignored = (torch.tensor(outputs[:5]), torch.full((5,), -100))
    assert macro_f1([*whole, ignored]) == macro_f1(whole)


def test_macro_f1_of_one_class_right_everywhere_and_of_nothing():
    outputs = torch.tensor([[2.0, 1.0], [3.0, 1.0]])
    assert macro_f1([(outputs, torch.tensor([0, 0]))]) == 1.0
    assert macro_f1([(outputs, torch.tensor([1, 1]))]) == 0.0
    assert math.isnan(macro_f1([]))
