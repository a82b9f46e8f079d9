"""The documentation as tests read it: pages, and the code blocks in them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SAMPLES = ROOT / "manifests/samples"

# What a block is called that is no manifest: a part of one, or of kinds that no test cluster has; a chart's values.
FRAGMENT, VALUES = "fragment", "values.yaml"

_BLOCK = re.compile(r'^( *)```(\w*)(?: title="([^"]*)")? *\n(.*?)^\1```$', re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: where it begins, its language and title ("" for none), its text."""

    page: Path
    line: int
    language: str
    title: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """README and everything below docs."""
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        indent, language, title, body = found.groups()
        lines = "".join(line.removeprefix(indent) for line in body.splitlines(keepends=True))
        yield Block(page, text.count("\n", 0, found.start()) + 1, language, title or "", lines)


def yaml_blocks() -> list[Block]:
    """Of all pages."""
    return [block for page in pages() for block in blocks(page) if block.language == "yaml"]


def manifests() -> list[tuple[str, str]]:
    """Place and text of everything that a reader may apply: the YAML of all pages, and the samples."""
    shown = [(block.place, block.text) for block in yaml_blocks() if block.title not in (FRAGMENT, VALUES)]
    samples = [
        (str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")) for path in sorted(SAMPLES.rglob("*.yaml"))
    ]
    return [*shown, *samples]
