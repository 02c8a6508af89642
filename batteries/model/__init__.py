"""PatchSVAE: its layers, its spectral stage, and derivatives of every order."""
