"""An incident's report as one HTML file, which needs nothing else to be read."""

from collections.abc import Iterable
from html import escape
from string import Template
from typing import Final

from markdown_it import MarkdownIt

_PAGE: Final = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>$title</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
  h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
  table { border-collapse: collapse; font-size: 13px; }
  td, th { padding: .15rem .6rem; text-align: left; border-bottom: 1px solid #ddd; }
  figure { margin: 1rem 0; } figcaption { font-weight: 600; } svg { max-width: 100%; height: auto; }
</style>
$begin
<h2>Plots</h2>
$plots
$rest
</html>
""")


def page(markdown: str, plots: Iterable[tuple[str, str]]) -> str:
    """The report's Markdown as HTML, with its plots after what stands out."""
    html = MarkdownIt("js-default").enable("table").render(markdown)
    begin, heading, rest = html.partition("<h2>")
    figures = "\n".join(
        f"<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>" for title, svg in plots
    )
    title = escape(markdown.partition("\n")[0].lstrip("# "))
    return _PAGE.substitute(title=title, begin=begin, plots=figures, rest=heading + rest)
