"""report.html: what a run, or a whole experiment, came to. One file that opens offline and prints well; at a terminal the same tables as text.

    python3 -m reasondistill.report RUN paper.json --out report.html
    python3 -m reasondistill.report RUN --text

Inputs are told apart by what they hold: run directories, files that `eval`, `select`, `sweep`, `scaling` and `align --heatmap` write, and paper.json. They become
sections of a few kinds of blocks (blocks.py), which are drawn twice: as text (text.py), or as a page with matplotlib's pictures (page.py).
"""

from .blocks import Section
from .page import write_page
from .sections import sections_of
from .sources import Material, ReportError, read_material
from .text import as_text

__all__ = ["Material", "ReportError", "Section", "as_text", "read_material", "sections_of", "write_page"]
