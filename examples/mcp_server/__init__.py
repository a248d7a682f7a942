"""An MCP server whose tools act for the tenant of whoever calls them. See README.md."""
