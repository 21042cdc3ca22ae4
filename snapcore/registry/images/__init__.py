"""Images in files: OCI layout directories, OCI archives and docker archives."""
