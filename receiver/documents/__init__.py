"""Documents for programs, generated from the code that they describe: JSON Schemas, AsyncAPI, OpenAPI."""
