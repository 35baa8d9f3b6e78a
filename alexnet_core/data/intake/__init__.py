"""Makes packs from image files, and reports what was found in them. Torch-free."""
