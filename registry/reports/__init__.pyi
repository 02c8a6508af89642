from .ablation_page import snapshot_page as snapshot_page
from .audit_page import audit_page as audit_page
