"""results → tables, pictures, a page."""

from nin_jax.report.results import Result, Results, read
from nin_jax.report.table import Summary, markdown, sentence, summarize, table
from nin_jax.report.writing import Report, write

__all__ = ["Report", "Result", "Results", "Summary", "markdown", "read", "sentence", "summarize", "table", "write"]
