"""The live page of the status port: three files, and the JSON that they ask for."""
