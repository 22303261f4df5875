"""Settings of the documentation: `make docs` writes docs/_build/html, from sources alone and without a network."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from generated import write_generated  # after the path is known

import mcnlab

write_generated()

project = "mcnlab"
author = "the authors of mcnlab"
project_copyright = "2026, the authors of mcnlab"
version = release = mcnlab.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
root_doc = "index"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_ipywidgets_js = {}  # which would be loaded from the network
suppress_warnings = ["myst.xref_missing"]  # links to files of the repository, which are no pages

autodoc_typehints = "none"  # shapes stand in the docstrings
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Source"]
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"mcnlab {version}"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b5a94", "color-brand-content": "#0b5a94"},
    "dark_css_variables": {"color-brand-primary": "#7cc4f5", "color-brand-content": "#7cc4f5"},
    "footer_icons": [],
}
html_static_path = ["static"]
html_css_files = ["mcnlab.css"]
