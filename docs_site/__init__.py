"""The documentation as a site: what is generated from the code, and how MkDocs reads the rest (`make docs`)."""
