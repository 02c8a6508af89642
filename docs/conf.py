"""Settings of the manual. ``make docs`` builds it; ``python -m manual`` does so with the versions of this environment."""

from batteries import __version__ as release

project = "batteries"
author = "the authors of batteries"
copyright = "the authors of batteries, Apache-2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "manual.pages"]
source_suffix = {".md": "markdown", ".ipynb": "markdown"}
root_doc = "index"
exclude_patterns = ["results/ablation/*/**", "results/d-ladder/**"]

myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
napoleon_use_rtype = False
python_maximum_signature_line_length = 88
add_module_names = False

html_theme = "furo"
html_title = f"batteries {release}"
html_static_path = ["_static"]
html_css_files = ["manual.css"]
html_copy_source = False
html_show_sphinx = False
templates_path: list[str] = []
smartquotes = False
