"""HTTP reading under a budget of time and bytes, and the interface to the Hugging Face Hub."""
