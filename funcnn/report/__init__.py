"""What a user sees of a run: the layer table, progress, histories, pictures."""

from funcnn.report.history import Row, read_history, row_of, write_history
from funcnn.report.latent import draw_images, draw_latent
from funcnn.report.notebook import live_curves
from funcnn.report.pictures import draw_confusion, draw_curves, draw_filters, draw_maps, draw_samples
from funcnn.report.progress import progress
from funcnn.report.table import count_parameters, layer_table

__all__ = [
    "Row", "count_parameters", "draw_confusion", "draw_curves", "draw_filters", "draw_images", "draw_latent",
    "draw_maps", "draw_samples", "layer_table", "live_curves", "progress", "read_history", "row_of", "write_history",
]  # fmt: skip
