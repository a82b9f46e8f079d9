"""From what is observed to what is written: one package a kind, and beside them what all kinds share."""
