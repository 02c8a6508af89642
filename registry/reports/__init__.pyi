from .ablation_page import snapshot_page as snapshot_page
from .inspections.inspection_page import inspected_page as inspected_page
