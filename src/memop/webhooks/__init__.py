"""Admission: so far, the certificates it is served with."""
