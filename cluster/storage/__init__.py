"""What is asked of a filesystem, the same on a disk and in an object store; listings, credentials, scratch space."""
