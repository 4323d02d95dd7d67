"""Heads and a memory of slots: random ones, and the equations of Graves, Wayne, Danihelka 2014.

The equations are loops over numbers, against which the tests hold the package.
"""

import math

import torch

from attnbook.addressing import Head

B, N, M, K = 2, 5, 3, 3  # inputs, slots, width of a slot, steps of a shift


def heads(H=2, steps=K, leading=(B,)):
    def drawn(*shape):
        return torch.randn(*leading, *shape, dtype=torch.float64)

    return Head(
        drawn(H, M),
        drawn(H, 1).exp(),
        drawn(H, 1).sigmoid(),
        drawn(H, steps).softmax(-1),
        1 + drawn(H, 1).exp(),
    )


def somewhere(H=2):
    return torch.randn(B, H, N, dtype=torch.float64).softmax(-1)


def cosine_by_hand(u, v):
    """Equation 6, and 0 where it divides by zero."""
    lengths = math.sqrt(sum(a * a for a in u)) * math.sqrt(sum(b * b for b in v))
    return sum(a * b for a, b in zip(u, v, strict=True)) / lengths if lengths else 0.0


def content_by_hand(key, memory, strength):
    """Equation 5."""
    powers = [math.exp(strength * cosine_by_hand(key, slot)) for slot in memory]
    return [p / sum(powers) for p in powers]


def interpolate_by_hand(content, before, gate):
    """Equation 7."""
    return [gate * c + (1 - gate) * b for c, b in zip(content, before, strict=True)]


def shift_by_hand(weights, steps):
    """Equation 8: indices modulo N, and a step s(d) for the distance d = i - j."""
    slots, reach = range(len(weights)), len(steps) // 2
    moved = [0.0 for _ in slots]
    for i in slots:
        for j in slots:
            for d in range(-reach, reach + 1):
                if (i - j - d) % len(weights) == 0:
                    moved[i] += weights[j] * steps[d + reach]
    return moved


def sharpen_by_hand(weights, sharpness):
    """Equation 9."""
    powers = [w**sharpness for w in weights]
    return [p / sum(powers) for p in powers]


def write_by_hand(memory, weights, erased, added):
    """Equations 3 and 4, all heads' erasing before any adding."""
    memory = [list(slot) for slot in memory]
    for w, e in zip(weights, erased, strict=True):
        for i, slot in enumerate(memory):
            memory[i] = [m * (1 - w[i] * e[c]) for c, m in enumerate(slot)]
    for w, a in zip(weights, added, strict=True):
        for i, slot in enumerate(memory):
            memory[i] = [m + w[i] * a[c] for c, m in enumerate(slot)]
    return memory


def read_by_hand(memory, weights):
    """Equation 2."""
    return [
        sum(w * slot[c] for w, slot in zip(weights, memory, strict=True))
        for c in range(len(memory[0]))
    ]


def address_by_hand(memory, before, head, h):
    """Figure 2 for head `h`."""
    content = content_by_hand(head.key[h].tolist(), memory, head.strength[h].item())
    gated = interpolate_by_hand(content, before, head.gate[h].item())
    return sharpen_by_hand(shift_by_hand(gated, head.shift[h].tolist()), head.sharpness[h].item())
