"""Two recurrent encoders: bidirectional of gated units, and stacked of LSTM units.

The first is written from appendix A of Bahdanau, Cho, Bengio 2015 ("the paper" below), whose
symbols are used. `B` sequences of `S` symbols, `m` the width of an embedding, `n` hidden units.
Padding stands behind the true symbols and changes nothing.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from attnbook.masks import padding

__all__ = ["Encoded", "Encoder", "GatedUnit", "StackedEncoded", "StackedEncoder"]


class Encoded(NamedTuple):
    """What the encoder leaves for the decoder.

    Attributes:
        annotations: `(B, S, 2n)`, the forward and backward states side by side (equation 7).
        mask: `(B, 1, S)`, True where a source symbol is, False on padding.
        last_forward: `(B, n)`, the forward state after the last symbol.
        first_backward: `(B, n)`, the backward state after the first symbol.
    """

    annotations: Float[Tensor, "B S A"]
    mask: Bool[Tensor, "B 1 S"]
    last_forward: Float[Tensor, "B n"]
    first_backward: Float[Tensor, "B n"]


class GatedUnit(nn.Module):
    """One step of the gated recurrent unit, given the part of its input that is not recurrent.

        z, r = sigmoid(drive_z + U_z s), sigmoid(drive_r + U_r s)
        s'   = (1 - z) s + z tanh(drive + U (r s))

    `torch.nn.GRU` is a variant: it resets after the product, `r (U s)`, and swaps `z` and `1 - z`.

    Args:
        hidden_dim: `n`, the width of the state.

    Shapes:
        drive `(B, 3n)` for z, r and the candidate in this order, state `(B, n)`, result `(B, n)`.

    Source:
        Cho et al. 2014, equations 5 to 8, with `z` and `1 - z` as in the paper's appendix A.1.1.
        Recurrent matrices start orthogonal (appendix B.1).

    >>> GatedUnit(2)(torch.zeros(1, 6), torch.ones(1, 2)).shape
    torch.Size([1, 2])
    """

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.gates = nn.Linear(hidden_dim, 2 * hidden_dim, bias=False)  # U_z, U_r
        self.candidate = nn.Linear(hidden_dim, hidden_dim, bias=False)  # U
        for matrix in (*self.gates.weight.chunk(2), self.candidate.weight):
            nn.init.orthogonal_(matrix)

    def forward(
        self, drive: Float[Tensor, "B G"], state: Float[Tensor, "B n"]
    ) -> Float[Tensor, "B n"]:
        """The next state `(B, n)`."""
        gate_drive, candidate_drive = drive.split([2 * state.shape[-1], state.shape[-1]], dim=-1)
        z, r = torch.sigmoid(gate_drive + self.gates(state)).chunk(2, dim=-1)
        return torch.lerp(state, torch.tanh(candidate_drive + self.candidate(r * state)), z)


class Encoder(nn.Module):
    """The bidirectional encoder: one annotation for each source symbol.

    Args:
        symbols: size of the source vocabulary.
        embed_dim: `m`, shared by both directions.
        hidden_dim: `n`, units of each direction.

    Shapes:
        source `(B, S)`, lengths `(B,)`, annotations `(B, S, 2n)`. Padding changes nothing: on it a
        state is carried along untouched.

    Raises:
        TypeError: source or lengths are not integer tensors.
        ValueError: a symbol is outside the vocabulary, or a length is not in 1..S.

    Source:
        Bahdanau, Cho, Bengio 2015, section 3.2 and appendix A.2.1.

    >>> encoder = Encoder(symbols=10, embed_dim=4, hidden_dim=3)
    >>> encoder(torch.tensor([[5, 2, 0]]), torch.tensor([2])).annotations.shape
    torch.Size([1, 3, 6])
    """

    def __init__(self, symbols: int, embed_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.embed = nn.Embedding(symbols, embed_dim)
        self.forward_drive = nn.Linear(embed_dim, 3 * hidden_dim)  # W_z, W_r, W
        self.backward_drive = nn.Linear(embed_dim, 3 * hidden_dim)
        self.forward_unit = GatedUnit(hidden_dim)
        self.backward_unit = GatedUnit(hidden_dim)

    def forward(self, source: Int[Tensor, "B S"], lengths: Int[Tensor, " B"]) -> Encoded:
        """Read the source in both directions."""
        check_symbols("source", source, self.embed.num_embeddings)
        check_lengths(lengths, source)
        mask = padding(lengths, source.shape[1])
        present = mask.transpose(1, 2)  # (B, S, 1)
        embedded = self.embed(source)
        ahead = _scan(self.forward_unit, self.forward_drive(embedded), present)
        back = _scan(self.backward_unit, self.backward_drive(embedded).flip(1), present.flip(1))
        annotations = torch.cat([ahead, back.flip(1)], dim=-1)
        return Encoded(annotations, mask, ahead[:, -1], back[:, -1])


class StackedEncoded(NamedTuple):
    """What the stacked encoder leaves for the decoder.

    Attributes:
        annotations: `(B, S, n)`, the states of the top layer; 0 on padding.
        mask: `(B, 1, S)`, True where a source symbol is, False on padding.
        hidden: `(B, layers, n)`, the state of each layer after the last symbol.
        cell: `(B, layers, n)`, the memory cell of each layer after the last symbol.
    """

    annotations: Float[Tensor, "B S n"]
    mask: Bool[Tensor, "B 1 S"]
    hidden: Float[Tensor, "B layers n"]
    cell: Float[Tensor, "B layers n"]


class StackedEncoder(nn.Module):
    """A stack of LSTM layers that reads from left to right.

    Args:
        symbols: size of the source vocabulary.
        embed_dim: width of an embedding.
        hidden_dim: `n`, units of each layer.
        layers: how many.

    Shapes:
        source `(B, S)`, lengths `(B,)` in any order, annotations `(B, S, n)`. The batch is packed:
        no step is spent on padding.

    Raises:
        TypeError: source or lengths are not integer tensors.
        ValueError: a symbol is outside the vocabulary, or a length is not in 1..S.

    Source:
        Luong, Pham, Manning 2015, sections 2 and 3.1: "hidden states at the top LSTM layers"; they
        use 4 layers of 1000 units, and feed the source in reverse. Reverse it beforehand for that.

    >>> encoder = StackedEncoder(symbols=10, embed_dim=4, hidden_dim=3, layers=2)
    >>> encoded = encoder(torch.tensor([[5, 2, 0], [5, 2, 7]]), torch.tensor([2, 3]))
    >>> encoded.annotations.shape, encoded.hidden.shape
    (torch.Size([2, 3, 3]), torch.Size([2, 2, 3]))
    >>> bool((encoded.hidden[0, 1] == encoded.annotations[0, 1]).all())  # top layer, last symbol
    True
    """

    def __init__(self, symbols: int, embed_dim: int, hidden_dim: int, layers: int = 1) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.embed = nn.Embedding(symbols, embed_dim)
        self.lstm = nn.LSTM(embed_dim, hidden_dim, num_layers=layers, batch_first=True)

    def forward(self, source: Int[Tensor, "B S"], lengths: Int[Tensor, " B"]) -> StackedEncoded:
        """Read the source."""
        check_symbols("source", source, self.embed.num_embeddings)
        check_lengths(lengths, source)
        mask = padding(lengths, source.shape[1])
        packed = pack_padded_sequence(
            self.embed(source), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        states, (hidden, cell) = self.lstm(packed)
        annotations, _ = pad_packed_sequence(states, batch_first=True, total_length=source.shape[1])
        return StackedEncoded(annotations, mask, hidden.transpose(0, 1), cell.transpose(0, 1))


def _scan(
    unit: GatedUnit, drive: Float[Tensor, "B S G"], present: Bool[Tensor, "B S 1"]
) -> Float[Tensor, "B S n"]:
    """The states of `unit` from 0, held where nothing is present."""
    state = drive.new_zeros(drive.shape[0], drive.shape[2] // 3)
    states = []
    for step_drive, here in zip(drive.unbind(1), present.unbind(1), strict=True):
        state = torch.where(here, unit(step_drive, state), state)
        states.append(state)
    return torch.stack(states, dim=1)


def check_symbols(name: str, symbols: Tensor, size: int) -> None:
    if not isinstance(symbols, Tensor) or symbols.dtype not in (torch.int32, torch.int64):
        got = symbols.dtype if isinstance(symbols, Tensor) else type(symbols).__name__
        raise TypeError(f"{name} must be an int32 or int64 tensor, got {got}")
    if symbols.ndim != 2 or symbols.shape[1] == 0:
        raise ValueError(
            f"{name} must have shape (batch, at least 1 position), got {tuple(symbols.shape)}"
        )
    if symbols.numel() and (symbols.min() < 0 or symbols.max() >= size):
        low, high = int(symbols.min()), int(symbols.max())
        raise ValueError(f"{name} must hold symbols 0..{size - 1}, got {low}..{high}")


def check_lengths(lengths: Tensor, source: Tensor) -> None:
    if not isinstance(lengths, Tensor):
        raise TypeError(f"lengths must be an integer tensor, got {type(lengths).__name__}")
    if lengths.shape != source.shape[:1]:
        raise ValueError(
            f"lengths must have shape {tuple(source.shape[:1])}, one for each source, "
            f"got {tuple(lengths.shape)}"
        )
    if lengths.numel() and int(lengths.min()) < 1:
        raise ValueError(f"every source needs at least 1 symbol, got length {int(lengths.min())}")
