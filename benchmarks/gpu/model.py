"""A language model of random weights: what it says is noise, and what it takes of a GPU is real.

The architecture is LLaMA's (https://arxiv.org/abs/2302.13971): RMSNorm, rotary positions, SwiGLU.
"""

from collections.abc import Sequence
from typing import Any, Final

import torch
from msgspec import Struct
from torch.nn.functional import rms_norm, scaled_dot_product_attention, silu

_BYTES: Final = 2  # Of a bfloat16.
_ROTARY_BASE: Final = 10_000.0


class Shape(Struct, frozen=True, kw_only=True):
    """How big a model is. The default has 0.95 billion weights."""

    layers: int = 16
    heads: int = 16
    head_width: int = 128
    inner_width: int = 5_632
    vocabulary: int = 32_000
    context: int  # Tokens, of prompt and answer together.

    @property
    def width(self) -> int:
        return self.heads * self.head_width

    @property
    def cache_bytes(self) -> int:
        """What the keys and values of one request take, for the whole context."""
        return self.layers * 2 * self.context * self.width * _BYTES


class Row(Struct):
    """What one request adds to a batch: its next tokens, after those that its cache has."""

    cache: Any  # A tensor: layers, 2, heads, context, head_width.
    begin: int
    tokens: list[int]

    @property
    def end(self) -> int:
        return self.begin + len(self.tokens)


class _Layer:
    def __init__(self, shape: Shape, device: str) -> None:
        width, inner = shape.width, shape.inner_width
        self.attention_norm, self.norm = (torch.ones(width, **_on(device)) for _ in range(2))
        self.qkv, self.out = _weights(width, 3 * width, device), _weights(width, width, device)
        self.up, self.down = _weights(width, 2 * inner, device), _weights(inner, width, device)


class Model:
    """The weights, on a device."""

    def __init__(self, shape: Shape, device: str = "cuda") -> None:
        self.shape = shape
        self._device = device
        self._embedding = _weights(shape.vocabulary, shape.width, device)
        self._layers = [_Layer(shape, device) for _ in range(shape.layers)]
        halves = torch.arange(0, shape.head_width, 2, device=device) / shape.head_width
        self._frequencies = _ROTARY_BASE**-halves

    def cache(self) -> Any:
        """Room for one request. Raises torch.OutOfMemoryError."""
        shape = self.shape
        sizes = (shape.layers, 2, shape.heads, shape.context, shape.head_width)
        return torch.empty(sizes, **_on(self._device))

    def next_tokens(self, rows: Sequence[Row]) -> list[int]:
        """The likeliest token after each row, whose cache has it all afterwards."""
        with torch.inference_mode():
            tokens: list[int] = self._scores(rows).argmax(-1).tolist()
        return tokens

    def _scores(self, rows: Sequence[Row]) -> Any:
        flat = [token for row in rows for token in row.tokens]
        places = [place for row in rows for place in range(row.begin, row.end)]
        angles = torch.tensor(places, device=self._device)[:, None] * self._frequencies
        turn = torch.polar(torch.ones_like(angles), angles)[:, None, :]
        x = self._embedding[torch.tensor(flat, device=self._device)]
        for number, layer in enumerate(self._layers):
            x = x + self._attention(number, layer, x, turn, rows)
            gate, up = (rms_norm(x, (self.shape.width,), layer.norm) @ layer.up).chunk(2, -1)
            x = x + (silu(gate) * up) @ layer.down
        ends = torch.tensor([len(row.tokens) for row in rows], device=self._device).cumsum(0) - 1
        return rms_norm(x[ends], (self.shape.width,)) @ self._embedding.T

    def _attention(self, number: int, layer: _Layer, x: Any, turn: Any, rows: Sequence[Row]) -> Any:
        """Linear layers see all tokens at once; each request attends to its own cache."""
        heads, head_width = self.shape.heads, self.shape.head_width
        normed = rms_norm(x, (self.shape.width,), layer.attention_norm)
        q, k, v = (normed @ layer.qkv).view(-1, 3, heads, head_width).unbind(1)
        q, k = _turned(q, turn), _turned(k, turn)
        attended, at = [], 0
        for row in rows:
            mine = slice(at, at + len(row.tokens))
            at = mine.stop
            keys, values = row.cache[number]
            keys[:, row.begin : row.end] = k[mine].transpose(0, 1)
            values[:, row.begin : row.end] = v[mine].transpose(0, 1)
            seen = (keys[None, :, : row.end], values[None, :, : row.end])
            is_prompt = row.begin == 0 and len(row.tokens) > 1
            asked = q[mine].transpose(0, 1)[None]
            attended.append(scaled_dot_product_attention(asked, *seen, is_causal=is_prompt)[0])
        joined = torch.cat(attended, dim=1).transpose(0, 1)
        return joined.reshape(-1, self.shape.width) @ layer.out


def _turned(x: Any, turn: Any) -> Any:
    """Rotary positions: pairs of numbers are turned by an angle that grows with the place."""
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turn).flatten(-2).to(x.dtype)


def _weights(rows: int, columns: int, device: str) -> Any:
    return torch.randn(rows, columns, **_on(device)) * rows**-0.5


def _on(device: str) -> dict[str, Any]:
    return {"device": device, "dtype": torch.bfloat16}
