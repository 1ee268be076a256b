"""Arrays from a name: built-in datasets, files, Hugging Face, the user's own."""
