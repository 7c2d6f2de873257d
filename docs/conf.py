"""The settings of the site, for Sphinx: `make docs` builds it in build/site.

What is ours is in _ext/: `sources` (pages of the sources, and links to them), `documents` (the documents beside this
folder, as pages), `docstrings` (ours as reStructuredText), `reference` (a page for each module, the table of layers),
`finish` (what is checked of the pages that were built).
"""

import sys
from pathlib import Path

import funcnn

sys.path[:0] = [str(Path(__file__).parent / "_ext"), str(Path(__file__).parent / "gallery")]

project = "funcnn"
author = "The funcnn authors"
copyright = author
version = release = funcnn.__version__
root_doc = "contents"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.linkcode",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "documents",
    "sources",
    "docstrings",
    "reference",
    "finish",
]
exclude_patterns = [
    "index.md",  # the page of a package index
    "_ext",
    "gallery/**",  # what sphinx-gallery makes pages of
    "pictures/sg_execution_times.rst",
    "sg_execution_times.rst",
    "notebooks/*.ipynb",
]

# --- Text -----------------------------------------------------------------------------------------------------

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist", "attrs_block", "attrs_inline"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 4
myst_url_schemes = {"http": None, "https": None, "mailto": None, "source": None}
myst_dmath_double_inline = True
highlight_language = "text"
pygments_style = "github-light"
pygments_dark_style = "github-dark"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
nitpicky = True
# --- Reference ------------------------------------------------------------------------------------------------

autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
maximum_signature_line_length = 100
add_module_names = False
toc_object_entries_show_parents = "hide"

# --- Gallery --------------------------------------------------------------------------------------------------

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "pictures",
    "filename_pattern": r"/plot_",
    "ignore_pattern": r"^_",
    "notebook_extensions": set(),  # a script needs the file of its style beside it
    "download_all_examples": False,
    "show_signature": False,
    "show_memory": False,
    "min_reported_time": 1e9,
    "abort_on_example_error": True,
    "copyfile_regex": r"_\w+\.py",
}

# --- Pages ----------------------------------------------------------------------------------------------------

html_theme = "furo"
html_favicon = "../funcnn/web/static/icon.svg"
html_title = "funcnn"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
