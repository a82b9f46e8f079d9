"""Admission: defaulting, validation, the reviews around them, and the making of certificates."""
