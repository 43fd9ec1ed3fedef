"""Models behind an OpenAI-compatible API: what is sent, when again, what it may cost, and which replies are answers."""
