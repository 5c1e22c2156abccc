"""The description of the whole API, as OpenAPI 3.1: tables by area, and one document of them."""
