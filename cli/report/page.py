"""An incident's report as one HTML file, which needs nothing else to be read."""

from html import escape
from string import Template
from typing import Final

from cli.report.markdown import title
from cli.report.plots import plots
from projections.past.report import Report

_PAGE: Final = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>$title</title>
<style>
  :root { color-scheme: light; }
  body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
  h1 { font-size: 1.5rem; line-height: 1.25; margin-bottom: .5rem; }
  h2 { font-size: 1.1rem; margin: 2.5rem 0 .5rem; padding-bottom: .25rem; border-bottom: 1px solid #ddd; }
  ul { padding-left: 1.2rem; } li { margin: .15rem 0; }
  .wide { overflow-x: auto; }
  table { border-collapse: collapse; font-size: 13px; width: 100%; font-variant-numeric: tabular-nums; }
  td, th { padding: .2rem .6rem; text-align: left; border-bottom: 1px solid #eee; white-space: nowrap; }
  th { color: #666; font-weight: 600; }
  td[style*="right"], th[style*="right"] { text-align: right; }
  tbody tr:hover { background: #f6f8fa; }
  code { font: 12px ui-monospace, monospace; }
  figure { margin: 1.25rem 0; } figcaption { font-weight: 600; margin-bottom: .25rem; }
  figure svg { display: block; width: 100%; height: auto; }
  @media print { body { margin: 0; max-width: none; } figure, tr { break-inside: avoid; } }
</style>
$begin
<h2>Plots</h2>
$plots
$rest
</html>
""")


class ReportMissing(Exception):
    """What makes the HTML report is not installed."""


def page(report: Report, markdown: str) -> str:
    """The report's Markdown as HTML, with its plots after what stands out. Raises ReportMissing."""
    try:
        from markdown_it import MarkdownIt  # noqa: PLC0415 - an extra, and slow to import.

        drawn = plots(report)
    except ImportError as error:
        message = (
            "an HTML report needs matplotlib: pip install 'respool[report]'; Markdown does not"
        )
        raise ReportMissing(message) from error
    html = MarkdownIt("js-default").enable("table").render(markdown)
    html = html.replace("<table>", '<div class="wide"><table>').replace(
        "</table>", "</table></div>"
    )
    begin, heading, rest = html.partition("<h2>")
    figures = "\n".join(
        f"<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>" for title, svg in drawn
    )
    return _PAGE.substitute(
        title=escape(title(report)), begin=begin, plots=figures, rest=heading + rest
    )
