from .ablation_page import snapshot_page as snapshot_page
from .audit_page import audit_page as audit_page
from .diagnosis.diagnosis_page import diagnosis_page as diagnosis_page
from .inspections.inspection_page import inspected_page as inspected_page
from .vae.vae_page import sample_pictures as sample_pictures
from .vae.vae_page import vae_page as vae_page
