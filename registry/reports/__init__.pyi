from .ablation_page import snapshot_page as snapshot_page
