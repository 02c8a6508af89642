from .ablation_page import snapshot_page as snapshot_page
from .diagnosis.diagnosis_page import diagnosis_page as diagnosis_page
