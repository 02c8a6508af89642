"""PatchSVAE: layers, spectral stage, and derivatives of every order."""
