"""Stories as symbols, and what memory networks do with them, in loops over numbers."""

import math

import torch

V, D, SLOTS = 7, 3, 9
# Stories of 3, 1 and no sentences, with padding in words and in sentences.
STORIES = torch.tensor(
    [
        [[1, 2, 3], [4, 5, 0], [6, 0, 0], [0, 0, 0]],
        [[2, 2, 6], [0, 0, 0], [0, 0, 0], [0, 0, 0]],
        [[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]],
    ]
)
QUESTIONS = torch.tensor([[5, 1], [3, 0], [2, 4]])


def moved(model):
    """In float64, away from special points."""
    model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    return model


def sentence_by_hand(words, table):
    """sum_j l_j * A x_j: coordinates by k, words by j, both from 1."""
    words = [word for word in words if word]
    J = len(words)
    total = [0.0] * D
    for j, word in enumerate(words, start=1):
        for k in range(1, D + 1):
            weight = (1 - j / J) - (k / D) * (1 - 2 * j / J)
            total[k - 1] += weight * table[word][k - 1]
    return total


def softmax_by_hand(scores):
    top = max(scores, default=0.0)
    parts = [math.exp(score - top) for score in scores]
    return [part / sum(parts) for part in parts]


def product(x, y):
    return sum(a * b for a, b in zip(x, y, strict=True))


def times(matrix, x):
    return [product(row, x) for row in matrix]


def plus(x, y):
    return [a + b for a, b in zip(x, y, strict=True)]


def mixture(weights, values):
    return [sum(w * value[k] for w, value in zip(weights, values, strict=True)) for k in range(D)]
