"""Baton: carries one training run from an uploaded data set to a tested endpoint, and leaves nothing running."""
