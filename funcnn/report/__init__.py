"""What a user sees of a run: the layer table, progress, histories, pictures."""

from funcnn.report.history import Row, read_history, row_of, write_history
from funcnn.report.progress import progress
from funcnn.report.table import count_parameters, layer_table

__all__ = ["Row", "count_parameters", "layer_table", "progress", "read_history", "row_of", "write_history"]
