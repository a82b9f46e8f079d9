"""memop's image: built without an engine's daemon, from local bases where there is no registry, and its SBOM."""
