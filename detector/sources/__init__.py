"""Which files of a folder and which arrays of an archive are samples, the same for fits and for clients."""
