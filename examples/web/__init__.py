"""A web application of many tenants, with FastAPI. See README.md."""
