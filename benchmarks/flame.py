"""A flame graph in SVG: how wide a function is says how much of the CPU it takes, with what it calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

_WIDTH, _ROW, _TOP, _LETTER = 1200, 16, 44, 6.2
_FONT = 'font-family="monospace" font-size="10"'
_LEAST = 0.003  # of all samples; what is narrower could not be seen


@dataclass
class _Node:
    colour: str = ""
    samples: int = 0
    children: dict[str, _Node] = field(default_factory=dict)


def _tree(stacks: Mapping[Sequence[tuple[str, str]], int]) -> _Node:
    root = _Node()
    for stack, samples in stacks.items():
        node = root
        node.samples += samples
        for name, colour in stack:
            node = node.children.setdefault(name, _Node(colour))
            node.samples += samples
    return root


def _boxes(node: _Node, total: int, left: float, depth: int) -> Iterator[tuple[int, str]]:
    """Each with its depth."""
    for name, child in sorted(node.children.items()):
        width = child.samples / total * _WIDTH
        if child.samples >= _LEAST * total:
            yield depth, _box(name, child, child.samples / total, left, width, depth)
            yield from _boxes(child, total, left, depth + 1)
        left += width


def _box(name: str, node: _Node, share: float, left: float, width: float, depth: int) -> str:
    top = _TOP + depth * _ROW
    letters = int((width - 4) / _LETTER)
    short = name.rpartition(" ")[2]
    label = short if len(short) <= letters else f"{short[: letters - 1]}…" if letters > 2 else ""
    text = f'<text x="{left + 2:.1f}" y="{top + 11}">{escape(label)}</text>' if label else ""
    box = f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="{_ROW - 1}" fill="{node.colour}"/>'
    return f"<g><title>{escape(name)}: {share * 100:.1f} %</title>{box}{text}</g>"


def draw(title: str, stacks: Mapping[Sequence[tuple[str, str]], int], legend: Mapping[str, str]) -> str:
    """`stacks`: from the outermost function, each a name and a colour; `legend`: colours by name."""
    total = sum(stacks.values())
    boxes = list(_boxes(_tree(stacks), total, 0, 0))
    height = _TOP + (max(depth for depth, _ in boxes) + 1) * _ROW + 4
    keys = [
        f'<rect x="{10 + 130 * place}" y="26" width="9" height="9" fill="{colour}"/>'
        f'<text x="{23 + 130 * place}" y="34">{escape(name)}</text>'
        for place, (name, colour) in enumerate(legend.items())
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" {_FONT}>',
            f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
            f'<text x="10" y="17" font-size="13" font-family="sans-serif" font-weight="bold">{escape(title)}</text>',
            *keys,
            *(box for _, box in boxes),
            "</svg>\n",
        ]
    )
