"""Reading over HTTP under a budget of time and bytes, and the Hugging Face Hub's interface."""
